"""From what a caller gives to a `TrainingBatch`: batches come masked, or as tokens to mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlm_spec.errors import InputError, PolicyError
from mlm_spec.masking import mask
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.places import check_batch

__all__ = ["Fields", "training_batch"]

Fields = TrainingBatch | Mapping[str, Any]

_BESIDE = ("attention_mask", "token_type_ids", "position_ids", "sequence_id", "position")
_MASKED = TrainingBatch._fields
_TOKENS = ("tokens", "eligible", "epoch", *_BESIDE)


def training_batch(
    given: Fields, encoder: EncoderConfig, policy: MaskingPolicy | None, seed: int
) -> TrainingBatch:
    """A masked micro-batch that the encoder can read (MLM-TRN-10).

    Tokens are masked here, as `mlm_spec.mask` does.

    Parameters
    ----------
    given : a `TrainingBatch`, or a mapping with its fields; or one with ``tokens``, ``eligible``,
        ``epoch`` and, where the policy needs words, ``word_id`` in place of ``inputs``, ``targets``
        and ``selected``.
    encoder : which encoder.
    policy : how tokens are masked; None where every batch comes masked.
    seed : of the masks.

    Raises
    ------
    InputError : a field that is missing or unknown.
    PolicyError : tokens, and no policy.
    And all that `mlm_spec.mask` and `mlm_spec.training.places.check_batch` raise.

    Source: chapters TRN, SEL and COR.  Bound: exact, bit for bit.
    """
    if isinstance(given, TrainingBatch):
        return check_batch(given, encoder)
    if not isinstance(given, Mapping):
        raise InputError("batch", f"a {type(given).__name__}", "a mapping of fields")
    if "tokens" not in given:
        _check_fields(given, _MASKED, ())
        return check_batch(TrainingBatch(**given), encoder)
    _check_fields(given, _TOKENS, ("word_id",))
    if policy is None:
        raise PolicyError("policy", "None", "a MaskingPolicy, since the batch has tokens")
    masked = mask(
        given["tokens"], given["sequence_id"], given["position"], given.get("word_id"),
        given["eligible"], policy, seed, given["epoch"],
    )  # fmt: skip
    beside = {name: given[name] for name in _BESIDE}
    return check_batch(TrainingBatch(*masked, **beside), encoder)


def _check_fields(
    given: Mapping[str, Any], required: Iterable[str], optional: Iterable[str]
) -> None:
    missing = [name for name in required if name not in given]
    unknown = [str(name) for name in given if name not in (*required, *optional)]
    if missing:
        raise InputError("batch", "without " + ", ".join(missing), "all of " + ", ".join(required))
    if unknown:
        allowed = ", ".join((*required, *optional))
        raise InputError("batch", "with " + ", ".join(unknown), f"only {allowed}")

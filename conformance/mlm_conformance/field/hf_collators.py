"""Hugging Face's ``DataCollatorForLanguageModeling``, on both its paths, as the ``sample`` ports.

``mlm_probability``, ``mask_replace_prob`` and ``random_replace_prob`` come from the policy.  The
tokenizer is a word-level one with the policy's vocabulary; its special tokens are the policy's.
Where every position is eligible the collator asks the tokenizer for the special tokens, as it
does with a plain data set; otherwise it is given a ``special_tokens_mask`` in which ineligible
positions are marked too.

With ``whole_word_mask`` it has the port ``sample_words`` and no other.  Words reach it as they do
in use, as character offsets that touch within a word, ineligible pieces included.
It would replace any weights by 1, 0, 0, and warn: other weights are refused here.

The PyTorch path also has ``sample_parallel``, by the data loading of `hf_loading`; with ``seed=``
it has that port alone.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray

from mlm_conformance.field.hf_loading import load
from mlm_conformance.field.sampling import require, seed_of, why_not
from mlm_spec.policy import Bernoulli, MaskingPolicy, WholeWord

__all__ = [
    "numpy_path",
    "seeded_torch_path",
    "torch_path",
    "whole_word_numpy_path",
    "whole_word_torch_path",
]

_VERSIONS = {
    "tokenizers": tokenizers.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
_SEED = 42  # as in the documentation of Trainer
_Array: TypeAlias = NDArray[Any]
_Path: TypeAlias = Literal["pt", "np"]


@dataclass(frozen=True, slots=True)
class Collator:
    """One path of the collator, called in the process that asks.

    Attributes
    ----------
    path : its ``return_tensors``: ``"pt"`` or ``"np"``, which are two implementations.
    versions : of the packages.
    """

    path: _Path
    versions: Mapping[str, str]

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the collator on n · B rows."""
        require(why_not(policy, (Bernoulli,)))
        transformers.set_seed(seed_of(tokens, eligible, policy, n))
        return _drawn(_collator(policy, self.path), _rows(tokens, eligible, policy), n)


@dataclass(frozen=True, slots=True)
class SeededCollator:
    """The PyTorch path in workers of a data loader; ``seed`` is the collator's own."""

    versions: Mapping[str, str]
    seed: int

    def sample_parallel(
        self,
        tokens: _Array,
        eligible: _Array,
        policy: MaskingPolicy,
        epochs: int,
        workers: int,
        ranks: int,
    ) -> dict[str, _Array]:
        """What each worker makes of the rows, int64 (epochs, ranks, workers, B, T)."""
        return _loaded(self.seed, tokens, eligible, policy, (epochs, workers, ranks))


@dataclass(frozen=True, slots=True)
class LoadedCollator:
    """The PyTorch path without a seed, also in workers of a data loader."""

    versions: Mapping[str, str]

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """As `Collator.sample`."""
        return Collator("pt", self.versions).sample(tokens, eligible, policy, n)

    def sample_parallel(
        self,
        tokens: _Array,
        eligible: _Array,
        policy: MaskingPolicy,
        epochs: int,
        workers: int,
        ranks: int,
    ) -> dict[str, _Array]:
        """As `SeededCollator.sample_parallel`."""
        return _loaded(None, tokens, eligible, policy, (epochs, workers, ranks))


@dataclass(frozen=True, slots=True)
class WordCollator:
    """One path of the collator with ``whole_word_mask``."""

    path: _Path
    versions: Mapping[str, str]

    def sample_words(
        self, tokens: _Array, eligible: _Array, word_id: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the collator on n · B rows."""
        alone = policy.corruption.mask == 1
        require(None if alone else "with whole words it shows nothing but the mask token")
        require(why_not(policy, (WholeWord,)))
        rows = _rows(tokens, eligible, policy, word_id)
        transformers.set_seed(seed_of(tokens, eligible, policy, n))
        return _drawn(_collator(policy, self.path, whole_word_mask=True), rows, n)


def torch_path() -> LoadedCollator:
    """``DataCollatorForLanguageModeling(return_tensors="pt")``."""
    return LoadedCollator(_VERSIONS)


def seeded_torch_path() -> SeededCollator:
    """``DataCollatorForLanguageModeling(seed=42, return_tensors="pt")``."""
    return SeededCollator(_VERSIONS, _SEED)


def numpy_path() -> Collator:
    """``DataCollatorForLanguageModeling(return_tensors="np")``."""
    return Collator("np", _VERSIONS)


def whole_word_torch_path() -> WordCollator:
    """``DataCollatorForLanguageModeling(whole_word_mask=True, return_tensors="pt")``."""
    return WordCollator("pt", _VERSIONS)


def whole_word_numpy_path() -> WordCollator:
    """``DataCollatorForLanguageModeling(whole_word_mask=True, return_tensors="np")``."""
    return WordCollator("np", _VERSIONS)


def _drawn(collator: Any, rows: list[dict[str, Any]], n: int) -> dict[str, _Array]:
    batch = collator([dict(row) for _ in range(n) for row in rows])
    names = {"inputs": "input_ids", "labels": "labels"}
    shape = (n, len(rows), -1)
    return {ours: np.asarray(batch[its]).reshape(shape) for ours, its in names.items()}


def _loaded(
    seed: int | None,
    tokens: _Array,
    eligible: _Array,
    policy: MaskingPolicy,
    many: tuple[int, int, int],
) -> dict[str, _Array]:
    require(why_not(policy, (Bernoulli,)))
    rows = _rows(tokens, eligible, policy)
    # The seed of a training script: a function of the call, the same on every rank.
    script = seed_of(tokens, eligible, policy, int(np.prod(many)))
    return load(partial(_collator, policy, "pt", seed=seed), rows, *many, script)


def _rows(
    tokens: _Array, eligible: _Array, policy: MaskingPolicy, word_id: _Array | None = None
) -> list[dict[str, Any]]:
    """Rows of a data set, as the collator takes them."""
    tokenizer, rows = _tokenizer_of(policy), []
    for i, ids in enumerate(tokens.tolist()):
        marks = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
        special = np.asarray(marks, bool) | ~eligible[i]
        row = {"input_ids": ids}
        if not eligible.all():  # of the batch: the tokenizer wants the same keys in all rows
            row["special_tokens_mask"] = special.astype(np.int64).tolist()
        if word_id is not None:
            row["offset_mapping"] = _offsets(word_id[i], np.asarray(marks, bool)).tolist()
        rows.append(row)
    return rows


def _collator(policy: MaskingPolicy, path: _Path, **options: Any) -> Any:
    shown = policy.corruption
    rate = policy.selection.rate  # type: ignore[union-attr]  # both laws here have one
    return transformers.DataCollatorForLanguageModeling(
        _tokenizer_of(policy),
        mlm_probability=float(rate),
        mask_replace_prob=float(shown.mask),
        random_replace_prob=float(shown.random),
        return_tensors=path,
        **options,
    )


def _offsets(word_id: _Array, special: _Array) -> _Array:
    """Character offsets (T, 2): one character a token, a blank before each word."""
    begins = np.ones(word_id.shape, np.bool_)
    begins[1:] = word_id[1:] != word_id[:-1]
    starts = np.arange(len(word_id)) + np.cumsum(begins)
    offsets = np.stack([starts, starts + 1], axis=1)
    offsets[special] = 0  # as tokenizers give for what is not in the text
    return offsets


def _tokenizer_of(policy: MaskingPolicy) -> Any:
    return _tokenizer(policy.vocab_size, policy.mask_id, policy.pad_id, policy.special_ids)


@lru_cache(maxsize=8)
def _tokenizer(size: int, mask_id: int, pad_id: int | None, special_ids: tuple[int, ...]) -> Any:
    """A word-level tokenizer whose token i is ``"t<i>"``; no file and no network."""
    model = tokenizers.models.WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0")
    others = [f"t{i}" for i in special_ids if i not in (mask_id, pad_id)]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model),
        mask_token=f"t{mask_id}",
        # Rows are of one length, so nothing is padded; pad() asks for the token all the same.
        pad_token=f"t{mask_id if pad_id is None else pad_id}",
        extra_special_tokens=others,
    )

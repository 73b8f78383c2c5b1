"""Micro-batches as a session takes them: checked on the host, and laid out in few shapes.

Everything is looked at before the first program runs, so bad input changes nothing and nothing has
to wait for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mlm_jax import checking
from mlm_jax.head import rounded_capacity
from mlm_jax.random_words import key_words
from mlm_jax.training.expected import expected_capacity
from mlm_spec.errors import IdRangeError, InputError, PolicyError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["Prepared", "TokenBatch", "prepare"]

Array = np.ndarray

_MASKED = TrainingBatch._fields
_COMMON = _MASKED[3:]
_TOKENS = ("tokens", "word_id", "eligible", *_COMMON, "epoch")
_FEWEST_ROWS, _FEWEST_COLUMNS = 4, 16
_FEWEST_SLOTS = _FEWEST_ROWS * _FEWEST_COLUMNS
_ROWS, _COLUMNS = 8, 64  # larger batches are padded to a multiple of these
_HEAD_POSITIONS = 2**24  # channels of attention dropout that one head has


class TokenBatch(NamedTuple):
    """A micro-batch that is masked inside the step.

    Attributes
    ----------
    tokens : int32 (B, T).
    word_id : int32 (B, T), or None where the policy looks at no words.
    eligible : bool (B, T).
    attention_mask … position : as in `TrainingBatch`.
    key : uint32 (4,), of seed and epoch.
    """

    tokens: Any
    word_id: Any
    eligible: Any
    attention_mask: Any
    token_type_ids: Any
    position_ids: Any
    sequence_id: Any
    position: Any
    key: Any


class Prepared(NamedTuple):
    """A micro-batch that is ready for a compiled step.

    Attributes
    ----------
    batch : padded to one of few shapes.
    capacity : of selected positions.
    sequences : how many sequences of rows its attention mask shows.
    """

    batch: TrainingBatch | TokenBatch
    capacity: int
    sequences: int


def prepare(
    given: Mapping[str, Any],
    encoder: EncoderConfig,
    policy: MaskingPolicy | None,
    seed: int,
    multiple: int = 1,
) -> Prepared:
    """A mapping of arrays, checked and padded; nothing runs on the device.

    ``multiple``: of so many rows.

    Raises
    ------
    InputError : no mapping, a field that is missing or unknown, a position that is selected at
        padding.
    PolicyError : tokens, and no policy.
    ShapeError, DTypeError, IdRangeError, SeedError, WordError.
    """
    held = _fields(given)
    first = "tokens" if "tokens" in held else "inputs"
    checking.check_array(first, held[first], ("B", "T"), checking.IDS)
    _check_common(held, held[first].shape, encoder)
    checking.refuse_ids(first, held[first], encoder.vocab_size)
    if first == "inputs":
        return _masked(held, encoder, multiple)
    if policy is None:
        raise PolicyError("policy", "None", "a MaskingPolicy, since a batch has tokens")
    return _of_tokens(held, encoder, policy, seed, multiple)


def _fields(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError("batch", f"a {type(given).__name__}", "a mapping of fields")
    names = _TOKENS if "tokens" in given else _MASKED
    missing = [n for n in names if n not in given and n != "word_id"]
    unknown = [str(n) for n in given if n not in names]
    if missing or unknown:
        got = f"without {missing[0]!r}" if missing else f"with {unknown[0]!r}"
        raise InputError("batch", got, "the fields " + ", ".join(names))
    return {"word_id": None, **given} if "tokens" in given else dict(given)


def _check_common(held: dict[str, Any], shape: tuple[int, ...], encoder: EncoderConfig) -> None:
    checking.check_array("attention_mask", held["attention_mask"], shape, ("bool",))
    checking.check_array("sequence_id", held["sequence_id"], (*shape, 2), ("uint32",))
    checking.check_array("position", held["position"], shape, ("uint32",))
    tables = {
        "token_type_ids": encoder.type_vocab_size,
        "position_ids": encoder.max_position_embeddings,
    }
    for name, size in tables.items():
        checking.check_array(name, held[name], shape, checking.IDS)
        checking.refuse_ids(name, held[name], size)
    if encoder.attention_dropout:
        _refuse(held["position"] >= _HEAD_POSITIONS, "position", held["position"])


def _refuse(bad: Array, name: str, values: Array) -> None:
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        expected = f"below {_HEAD_POSITIONS}, the channels that a head's dropout has"
        raise IdRangeError(f"{name}[{row}, {column}]", values[row, column], expected)


def _refuse_at_padding(bad: Array, name: str) -> None:
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}[{row}, {column}]", "true at padding", "false there")


def _masked(held: dict[str, Any], encoder: EncoderConfig, multiple: int) -> Prepared:
    shape = held["inputs"].shape
    checking.check_array("targets", held["targets"], shape, checking.IDS)
    checking.check_array("selected", held["selected"], shape, ("bool",))
    checking.refuse_ids("targets", held["targets"], encoder.vocab_size, held["selected"])
    _refuse_at_padding(held["selected"] & ~held["attention_mask"], "selected")
    rows, columns = _bucket(shape, multiple)
    arrays = {name: _padded(held[name], rows, columns) for name in _MASKED}
    count = int(np.count_nonzero(held["selected"]))
    capacity = rounded_capacity(max(count, _FEWEST_SLOTS), rows * columns)
    return Prepared(TrainingBatch(**arrays), capacity, _sequences(held))


def _of_tokens(
    held: dict[str, Any],
    encoder: EncoderConfig,
    policy: MaskingPolicy,
    seed: int,
    multiple: int,
) -> Prepared:
    source = [held[n] for n in ("tokens", "sequence_id", "position", "word_id", "eligible")]
    checking.check_mask(*source)
    checking.refuse_ids("tokens", held["tokens"], policy.vocab_size)
    special = np.isin(held["tokens"], policy.special_ids)
    _refuse_at_padding(held["eligible"] & ~special & ~held["attention_mask"], "eligible")
    rows, columns = _bucket(held["tokens"].shape, multiple)
    arrays = {n: _padded(held[n], rows, columns) for n in _TOKENS[:-1] if held[n] is not None}
    _set_apart(arrays, held, policy)
    key = key_words(seed, held["epoch"])
    count = int(np.count_nonzero(held["eligible"]))
    capacity = expected_capacity(policy, count, rows * columns)
    batch = TokenBatch(**{"word_id": None, **arrays}, key=key)
    return Prepared(batch, capacity, _sequences(held))


def _set_apart(arrays: dict[str, Array], held: dict[str, Any], policy: MaskingPolicy) -> None:
    """Columns that were added are sequences of their own.

    A law that counts all positions of a sequence would count them too.
    """
    rows, columns = held["tokens"].shape
    if arrays["tokens"].shape == (rows, columns):
        return
    arrays["tokens"][rows:] = arrays["tokens"][:, columns:] = policy.pad_id or 0
    used = set(np.unique(_joined(held["sequence_id"])).tolist())
    free = next(number for number in range(2**64 - 1, -1, -1) if number not in used)
    arrays["sequence_id"][:, columns:] = [free & 0xFFFFFFFF, free >> 32]
    added = np.arange(arrays["position"].shape[1] - columns, dtype=np.uint32)
    arrays["position"][:, columns:] = added


def _bucket(shape: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """The shape that a batch is padded to: powers of two, then multiples of a step."""
    rows, columns = max(shape[0], _FEWEST_ROWS), max(shape[1], _FEWEST_COLUMNS)
    return -(-_rounded(rows, _ROWS) // multiple) * multiple, _rounded(columns, _COLUMNS)


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step if count > step else 1 << (count - 1).bit_length()


def _padded(array: Array, rows: int, columns: int) -> Array:
    """Zeros in added rows and columns: no real position, nothing selected; ids as int32."""
    missing = ((0, rows - array.shape[0]), (0, columns - array.shape[1]))
    narrow = checking.narrow_ids(array) if array.dtype.name in checking.IDS else array
    return np.pad(narrow, (*missing, *((0, 0),) * (array.ndim - 2)))


def _joined(sequence_id: Array) -> Array:
    return sequence_id[..., 0].astype(np.uint64) | sequence_id[..., 1].astype(np.uint64) << 32


def _sequences(held: dict[str, Any]) -> int:
    """The number of pairs (row, sequence) that the attention mask shows."""
    joined, real = _joined(held["sequence_id"]), held["attention_mask"]
    return sum(len(np.unique(ids[shown])) for ids, shown in zip(joined, real, strict=True))

"""Examples of a data set, one sequence each, put side by side in a padded batch."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm_spec.errors import DTypeError, InputError, ShapeError, WordError
from mlm_torch.places import sequence_words

__all__ = ["Padded", "pad_examples"]

_NUMBERED = (
    "an integer in 0..2**64 - 1, the number of the example in the whole data set (see "
    "NumberedDataset; trainers may drop columns that their model does not take: "
    "remove_unused_columns=False)"
)


class Padded(NamedTuple):
    """A batch before masking, (B, T).

    Attributes
    ----------
    tokens : int64.
    sequence_id : uint32 (B, T, 2); padding has one of its own, and so belongs to no sequence.
    position : uint32, in the source sequence.
    word_id : int32, or None where the examples say nothing of words.
    eligible : bool.
    attention_mask : bool.
    token_type_ids : int64, or None where the examples have none.
    """

    tokens: Tensor
    sequence_id: Tensor
    position: Tensor
    word_id: Tensor | None
    eligible: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None


class _Row(NamedTuple):
    """One example, each field (n,) and int64, or None; ``number`` has the bits of its id."""

    tokens: Tensor
    number: int
    start: int
    word_id: Tensor | None
    special: Tensor | None
    attention_mask: Tensor | None
    token_type_ids: Tensor | None


def pad_examples(
    examples: Sequence[Mapping[str, Any]], key: str, pad_id: int, multiple: int, words: bool
) -> Padded:
    """Put examples side by side, padded behind.

    Parameters
    ----------
    examples : as `mlm_torch.MaskingCollator` takes them.
    key : under which an example has its number.
    pad_id : shown at padding.
    multiple : T is a multiple of it.
    words : whether words are needed.

    Raises
    ------
    InputError, ShapeError, DTypeError, WordError : with the example and the field.
    """
    if not examples:
        raise InputError("examples", "empty", "one example at least")
    rows = [_read(f"examples[{n}]", given, key, words) for n, given in enumerate(examples)]
    longest = max(len(row.tokens) for row in rows)
    size = max(-(-longest // multiple), 1) * multiple
    real = _joined([row.attention_mask for row in rows], rows, size, 1).bool()
    special = _joined([row.special for row in rows], rows, size, 0).bool()
    word_id = _joined([row.word_id for row in rows], rows, size, 0, -1) if words else None
    eligible = real & ~special
    if word_id is not None:
        eligible &= word_id >= 0
    number = torch.tensor([row.number for row in rows])[:, None].expand(-1, size)
    start = torch.tensor([row.start for row in rows])[:, None]
    types = [row.token_type_ids for row in rows]
    return Padded(
        tokens=_joined([row.tokens for row in rows], rows, size, pad_id, pad_id),
        sequence_id=sequence_words(torch.where(real, number, ~number)),
        position=(start + torch.arange(size)).to(torch.uint32),
        word_id=None if word_id is None else word_id.int(),
        eligible=eligible,
        attention_mask=real,
        token_type_ids=None if types[0] is None else _joined(types, rows, size, 0),
    )


def _joined(
    fields: Sequence[Tensor | None], rows: Sequence[_Row], size: int, absent: int, padding: int = 0
) -> Tensor:
    """One field of all rows, int64 (B, T): ``absent`` where a row has none, ``padding`` behind."""
    joined = torch.full((len(rows), size), padding)
    for line, field, row in zip(joined, fields, rows, strict=True):
        line[: len(row.tokens)] = absent if field is None else field
    return joined


def _read(where: str, given: Mapping[str, Any], key: str, words: bool) -> _Row:
    if not isinstance(given, Mapping):
        raise InputError(where, f"a {type(given).__name__}", "a mapping of fields")
    if "input_ids" not in given:
        raise InputError(where, "without input_ids", "an example with its token ids")
    tokens = _integers(f"{where}['input_ids']", given["input_ids"], None)
    size = len(tokens)

    def field(name: str) -> Tensor | None:
        value = given.get(name)
        return None if value is None else _integers(f"{where}[{name!r}]", value, size)

    return _Row(
        tokens=tokens,
        number=_number(f"{where}[{key!r}]", given.get(key)),
        start=_start(f"{where}['first_position']", given.get("first_position", 0), size),
        word_id=_words(where, given, size) if words else None,
        special=field("special_tokens_mask"),
        attention_mask=field("attention_mask"),
        token_type_ids=field("token_type_ids"),
    )


def _integers(where: str, value: Any, size: int | None) -> Tensor:
    found = torch.as_tensor(value)
    if found.is_floating_point() and found.numel():
        raise DTypeError(where, f"of dtype {found.dtype}".replace("torch.", ""), "integers")
    if found.ndim != 1 or (size is not None and len(found) != size):
        wanted = "(n,)" if size is None else f"({size},), that of its input_ids"
        raise ShapeError(where, f"of shape {tuple(found.shape)}", f"shape {wanted}")
    return found.long()


def _number(where: str, value: Any) -> int:
    """The number of an example as an int64 with the same bits."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(where, "missing" if value is None else repr(value), _NUMBERED) from None
    if isinstance(value, bool) or not 0 <= number < 2**64:
        raise InputError(where, repr(value), _NUMBERED)
    return number - 2**64 if number >= 2**63 else number


def _start(where: str, value: Any, size: int) -> int:
    """The position of the first token, that of a window, in its source sequence."""
    expected = f"an integer in 0..2**32 - {max(size, 1)}"
    try:
        start = operator.index(value)
    except TypeError:
        raise InputError(where, repr(value), expected) from None
    if not 0 <= start <= 2**32 - max(size, 1):
        raise InputError(where, start, expected)
    return start


def _words(where: str, given: Mapping[str, Any], size: int) -> Tensor:
    """Words numbered from 0 on; −1 for what belongs to none.

    Neighbours with one number are a word, and nothing else is: tokenizers count from 0 again in
    the second text of a pair.
    """
    if given.get("word_ids") is not None:
        marks = [None if word is None else int(word) for word in given["word_ids"]]
        begins = [n == 0 or marks[n] != marks[n - 1] for n in range(len(marks))]
        name = "word_ids"
    elif given.get("offset_mapping") is not None:
        pairs = [(int(start), int(end)) for start, end in given["offset_mapping"]]
        marks = [None if start == end else start for start, end in pairs]
        ends = [None, *(None if start == end else end for start, end in pairs)]
        begins = [mark != end for mark, end in zip(marks, ends, strict=False)]
        name = "offset_mapping"
    else:
        got = "without word_ids and offset_mapping"
        raise WordError(where, got, "one of them, since this policy looks at words")
    if len(marks) != size:
        got, wanted = f"of length {len(marks)}", f"length {size}, that of its input_ids"
        raise ShapeError(f"{where}[{name!r}]", got, wanted)
    numbers = torch.tensor(begins, dtype=torch.int64).cumsum(0) - 1
    return torch.where(
        torch.tensor([mark is None for mark in marks], dtype=torch.bool), -1, numbers
    )

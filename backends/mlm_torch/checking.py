"""Bad input, found before anything is computed (MLM-ERR-1 .. MLM-ERR-10, MLM-ERR-14, MLM-ERR-15).

Shapes, dtypes and policies are static: they are refused in steps too.  Values are looked at only
by the checked entry points, only where they matter, and cost one synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import MaskingPolicy, WholeWord

__all__ = [
    "check_batch",
    "check_capacity",
    "check_finite",
    "check_ids",
    "check_layer",
    "check_logits",
    "check_rows",
    "check_selection",
    "check_tensor",
    "check_words",
    "needs_words",
]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
IDS = (torch.int32, torch.int64)
WEIGHTS = (torch.float32, torch.float64)


def check_tensor(
    name: str, value: object, shape: Sequence[int | str], dtypes: Sequence[torch.dtype]
) -> None:
    """A tensor of the shape (letters are free axes) and of one of the dtypes (MLM-ERR-1, 2)."""
    allowed = " or ".join(_name(dtype) for dtype in dtypes)
    if not isinstance(value, Tensor):
        raise DTypeError(name, f"a {type(value).__name__}", f"a tensor of {allowed}")
    fits = value.ndim == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(str(axis) for axis in shape) + ")"
        raise ShapeError(name, f"of shape {tuple(value.shape)}", f"shape {wanted}")
    if value.dtype not in dtypes:
        raise DTypeError(name, f"of dtype {_name(value.dtype)}", allowed)


def check_words(key: object, counter: object) -> None:
    """Keys and counters, uint32 (n, 4), as many of the one as of the other."""
    check_tensor("key", key, ("n", 4), (torch.uint32,))
    check_tensor("counter", counter, (key.shape[0], 4), (torch.uint32,))


def check_batch(
    tokens: Tensor,
    sequence_id: Tensor,
    position: Tensor,
    word_id: Tensor | None,
    eligible: Tensor,
    policy: MaskingPolicy,
) -> None:
    """All of a masker's arguments that can be judged without looking at values."""
    check_tensor("tokens", tokens, ("B", "T"), IDS)
    rows, columns = tokens.shape
    check_tensor("sequence_id", sequence_id, (rows, columns, 2), (torch.uint32,))
    check_tensor("position", position, (rows, columns), (torch.uint32,))
    if word_id is not None:
        check_tensor("word_id", word_id, (rows, columns), (torch.int32,))
    check_tensor("eligible", eligible, (rows, columns), (torch.bool,))
    if not isinstance(policy, MaskingPolicy):
        raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy")
    if word_id is None and needs_words(policy):
        raise WordError("word_id", None, "int32 (B, T), since this policy looks at words")


def needs_words(policy: MaskingPolicy) -> bool:
    """Whether a policy selects or corrupts by words (MLM-ERR-15)."""
    return isinstance(policy.selection, WholeWord) or policy.corruption.unit == "word"


def check_selection(
    targets: Tensor, selected: Tensor, weights: Tensor | None, shape: tuple[int, int]
) -> None:
    """Targets, selection and upstream weights of one batch: shapes and dtypes."""
    check_tensor("targets", targets, shape, IDS)
    check_tensor("selected", selected, shape, (torch.bool,))
    if weights is not None:
        check_tensor("weights", weights, shape, WEIGHTS)


def check_logits(logits: Tensor) -> None:
    """Logits (B, T, V) of a float dtype, with at least one id."""
    check_tensor("logits", logits, ("B", "T", "V"), FLOATS)
    if logits.shape[2] == 0:
        raise ShapeError(
            "logits", f"of shape {tuple(logits.shape)}", "a vocabulary of 1 id or more"
        )


def check_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Hidden states and an output layer of one float dtype, with at least one id."""
    check_tensor("hidden", hidden, ("B", "T", "d"), FLOATS)
    check_tensor("weight", weight, ("V", hidden.shape[2]), (hidden.dtype,))
    if weight.shape[0] == 0:
        raise ShapeError(
            "weight", f"of shape {tuple(weight.shape)}", "a vocabulary of 1 id or more"
        )
    if bias is not None:
        check_tensor("bias", bias, (weight.shape[0],), (hidden.dtype,))


def check_capacity(capacity: int) -> None:
    """The static number of selected positions that a step has room for."""
    if isinstance(capacity, bool) or not isinstance(capacity, int | torch.SymInt):
        raise DTypeError("capacity", f"a {type(capacity).__name__}", "an integer")
    if capacity < 0:
        raise ShapeError("capacity", capacity, "0 or more")


def check_ids(name: str, ids: Tensor, vocab_size: int, where: Tensor | None = None) -> None:
    """Ids in 0 .. vocab_size − 1, at all positions or where ``where`` holds (MLM-ERR-3)."""
    if ids.numel() == 0:
        return
    if where is None:
        low, high = torch.aminmax(ids)
        if int(low) >= 0 and int(high) < vocab_size:
            return
    bad = (ids < 0) | (ids >= vocab_size)
    index = _first(bad if where is None else bad & where)
    if index is not None:
        expected = f"an id in 0..{vocab_size - 1} (vocab_size is {vocab_size})"
        raise IdRangeError(_at(name, index), int(ids[index]), expected)


def check_finite(name: str, values: Tensor, where: Tensor | None = None) -> None:
    """No NaN and no infinity, everywhere or in the (B, T) places of ``where`` (MLM-ERR-4)."""
    bad = ~torch.isfinite(values)
    if where is not None:
        bad &= where.view(where.shape + (1,) * (values.ndim - where.ndim))
    index = _first(bad)
    if index is not None:
        raise NotFiniteError(_at(name, index), float(values[index]), "a finite number")


def check_rows(name: str, rows: Tensor, targets: Tensor, index: Tensor, columns: int) -> None:
    """The logits of the selected positions are a distribution that allows the targets.

    Parameters
    ----------
    name : what the logits are called in messages.
    rows : (N, V), the logits of the selected positions.
    targets : int64 (N,).
    index : int64 (N,), the flat place of each row in (B, T), for the message.
    columns : T.

    Raises
    ------
    NotFiniteError (NaN, +inf), NoSupportError (all −inf), ImpossibleTargetError (the target's
    logit is −inf); in this order (MLM-ERR-4, MLM-ERR-5, MLM-ERR-6).
    """
    peak = rows.amax(dim=1)  # NaN and +inf both come through a maximum
    chosen = rows.gather(1, targets[:, None])[:, 0]
    if bool((torch.isfinite(peak) & (chosen != -torch.inf)).all()):
        return

    def place(row: int) -> tuple[int, ...]:
        return divmod(int(index[row]), columns)

    bad = _first((peak == torch.inf) | torch.isnan(peak))
    if bad is not None:
        row = rows[bad]
        column = _first((row == torch.inf) | torch.isnan(row))
        where = _at(name, (*place(*bad), *column))
        raise NotFiniteError(where, float(row[column]), "a number or -inf")
    bad = _first(peak == -torch.inf)
    if bad is not None:
        raise NoSupportError(_at(name, place(*bad)), "all -inf", "one finite logit at least")
    (row,) = _first(chosen == -torch.inf)
    where = _at(name, (*place(row), int(targets[row])))
    raise ImpossibleTargetError(where, "-inf", "a finite number, for it is the target's logit")


def _first(bad: Tensor) -> tuple[int, ...] | None:
    """The first index where ``bad`` holds."""
    if not bool(bad.any()):
        return None
    return tuple(int(i) for i in bad.nonzero()[0])


def _at(name: str, index: Sequence[int]) -> str:
    return f"{name}[{', '.join(str(i) for i in index)}]"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

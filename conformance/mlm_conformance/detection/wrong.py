"""Wrong log-likelihoods, one idea each: logits (N, V) and targets (N,) → nats (N,).

All of them give a plausible loss on ordinary logits.  The work is in float32, as in training,
or in float64 for float64 logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.plain import at_targets

__all__ = ["WRONG", "Value"]

Array = Any  # NDArray of any float dtype; bfloat16 is none that NumPy's types know
Value = Callable[[Array, Array], Array]

_BF16 = ml_dtypes.bfloat16


def _wide(z: Array) -> Array:
    return z if z.dtype == np.float64 else z.astype(np.float32)


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _softmax(z: Array) -> Array:
    power = np.exp(z - z.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True)


def _narrow(values: Array, dtype: Any) -> Array:
    return values.astype(dtype).astype(np.float32)


def _summed(add: Callable[[Array], Array]) -> Value:
    """(z_t − m) − log S, where ``add`` makes S of the exponentials (N, V)."""

    def value(z: Array, t: Array) -> Array:
        shifted = _wide(z) - _wide(z).max(axis=-1, keepdims=True)
        total = add(np.exp(shifted)).astype(shifted.dtype)
        return at_targets(shifted, t) - np.log(total)

    return value


def _halves(terms: Array) -> Array:
    """A tree in the dtype of the terms."""
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], axis=-1)
        terms = terms[..., 0::2] + terms[..., 1::2]
    return terms[..., 0]


def _in_order(terms: Array) -> Array:
    return np.cumsum(terms, axis=-1, dtype=terms.dtype)[..., -1]


def log_softmax_in_bfloat16(z: Array, t: Array) -> Array:
    """The log-softmax is stored in bfloat16."""
    return at_targets(_narrow(_log_softmax(_wide(z)), _BF16), t)


def logits_in_bfloat16(z: Array, t: Array) -> Array:
    """Logits pass through bfloat16."""
    return at_targets(_log_softmax(_narrow(z, _BF16)), t)


def logits_in_float16(z: Array, t: Array) -> Array:
    """Logits pass through float16."""
    return at_targets(_log_softmax(_narrow(z, np.float16)), t)


def float32_throughout(z: Array, t: Array) -> Array:
    """float64 logits are scored in float32."""
    return at_targets(_log_softmax(z.astype(np.float32)), t)


def no_max_shift(z: Array, t: Array) -> Array:
    """Exponentials of the logits as they are."""
    return at_targets(_wide(z), t) - np.log(np.exp(_wide(z)).sum(axis=-1))


def log_of_p_plus_1e_9(z: Array, t: Array) -> Array:
    """1e-9 is added to the probability."""
    return np.log(at_targets(_softmax(_wide(z)), t) + np.float32(1e-9))


def p_clipped_at_1e_7(z: Array, t: Array) -> Array:
    """Probabilities are kept within 1e-7 … 1 − 1e-7."""
    return np.log(np.clip(at_targets(_softmax(_wide(z)), t), 1e-7, 1 - 1e-7))


def log_of_softmax(z: Array, t: Array) -> Array:
    """The logarithm of a probability that may be 0."""
    return np.log(at_targets(_softmax(_wide(z)), t))


def label_smoothing(z: Array, t: Array) -> Array:
    """One per cent of the target is spread over all possible ids."""
    every = _log_softmax(_wide(z))
    possible = np.where(np.isfinite(every), every, np.nan)
    return 0.99 * at_targets(every, t) + 0.01 * np.nanmean(possible, axis=-1)


def padded_ids(z: Array, t: Array) -> Array:
    """Two ids of logit 0 behind the vocabulary take part."""
    more = np.zeros((len(z), 2), _wide(z).dtype)
    return at_targets(_log_softmax(np.concatenate([_wide(z), more], axis=-1)), t)


def last_id_dropped(z: Array, t: Array) -> Array:
    """The sum stops before the last id."""
    top = _wide(z).max(axis=-1, keepdims=True)
    total = np.exp(_wide(z)[:, :-1] - top).sum(axis=-1) if z.shape[-1] > 1 else np.ones(len(z))
    return at_targets(_wide(z), t) - (top[:, 0] + np.log(total))


def first_id_dropped(z: Array, t: Array) -> Array:
    """The sum starts behind the first id, which is taken for padding."""
    back = z.shape[-1] - 1 - t.astype(np.int64)
    return last_id_dropped(z[:, ::-1], back)


def temperature(z: Array, t: Array) -> Array:
    """Logits are divided by 1.0001."""
    return at_targets(_log_softmax(_wide(z) / np.float32(1.0001)), t)


def z_loss(z: Array, t: Array) -> Array:
    """1e-4 times the squared log-sum-exp is taken off."""
    wide = _wide(z)
    top = wide.max(axis=-1)
    normaliser = top + np.log(np.exp(wide - top[:, None]).sum(axis=-1))
    return at_targets(wide, t) - normaliser - np.float32(1e-4) * normaliser**2


def target_off_by_one(z: Array, t: Array) -> Array:
    """The id after the target is scored."""
    return at_targets(_log_softmax(_wide(z)), (t + 1) % z.shape[-1])


def logits_capped_at_50(z: Array, t: Array) -> Array:
    """Logits above 50 are taken for 50, those below −50 for −50."""
    held = np.clip(_wide(z), -50, 50)
    return at_targets(_log_softmax(np.where(np.isneginf(_wide(z)), -np.inf, held)), t)


def only_the_likeliest(z: Array, t: Array) -> Array:
    """The sum is over the 40 largest logits, and the target."""
    wide = _wide(z)
    kept = -np.sort(-wide, axis=-1)[:, :40]
    top, own = kept[:, 0], at_targets(wide, t)
    total = np.exp(kept - top[:, None]).sum(axis=-1)
    total = total + np.where(own < kept[:, -1], np.exp(own - top), 0)
    return own - (top + np.log(total))


def _in(dtype: Any, add: Callable[[Array], Array]) -> Value:
    return _summed(lambda terms: add(terms.astype(dtype)))


WRONG: Mapping[str, Value] = MappingProxyType(
    {
        "bfloat16 log-softmax": log_softmax_in_bfloat16,
        "logits rounded to bfloat16": logits_in_bfloat16,
        "logits rounded to float16": logits_in_float16,
        "float32 for float64 logits": float32_throughout,
        "no max shift": no_max_shift,
        "log(p + 1e-9)": log_of_p_plus_1e_9,
        "p clipped at 1e-7": p_clipped_at_1e_7,
        "log of softmax": log_of_softmax,
        "label smoothing 0.01": label_smoothing,
        "float16 sum, one by one": _in(np.float16, _in_order),
        "float16 sum, in a tree": _in(np.float16, _halves),
        "bfloat16 sum, in a tree": _in(_BF16, _halves),
        "sum rounded to bfloat16": _summed(lambda terms: terms.sum(axis=-1).astype(_BF16)),
        "2 padded ids in the softmax": padded_ids,
        "last id dropped": last_id_dropped,
        "first id dropped": first_id_dropped,
        "temperature 1.0001": temperature,
        "z-loss 1e-4": z_loss,
        "target off by one": target_off_by_one,
        "logits capped at ±50": logits_capped_at_50,
        "the 40 likeliest ids only": only_the_likeliest,
    }
)
"""Each wrong implementation by its name in the table."""

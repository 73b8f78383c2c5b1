"""What the tests of the JAX backend share: laws, batches, arguments, compilations counted."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import mlm_jax
import numpy as np

from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

__all__ = [
    "DTYPES",
    "LAWS",
    "NAN_WEIGHTS",
    "PORT",
    "UNITS",
    "assert_same_batch",
    "closed_form",
    "compiled",
    "head_arguments",
    "packed",
    "poisoned",
    "policy",
    "put",
    "score_arguments",
]

PORT = mlm_jax.JaxPort()
DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
SPECIAL = (0, 1, 2, 3)
NAN_WEIGHTS = np.full((2, 4), np.nan, np.float32)
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
compiled: list[str] = []
"""One entry for each program that this process has compiled since it imported this module."""


def _note_compilation(event: str, _seconds: float, **_rest: Any) -> None:
    if event == COMPILE_EVENT:
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def policy(selection: Any, weights: str = "1/3 1/3 1/3", unit: str = "token", **rest: Any) -> Any:
    mask, random, keep = weights.split()
    fields = {"vocab_size": 32, "mask_id": 3, "pad_id": 0, "special_ids": SPECIAL, **rest}
    return MaskingPolicy(selection, Corruption(mask, random, keep, unit), **fields)  # type: ignore[arg-type]


LAWS = {
    "bernoulli": Bernoulli("3/10"),
    "count": FixedCount("3/20"),
    "count half even": FixedCount("1/2", floor=1, cap=3, base="all", rounding="half_even"),
    "count ceiling": FixedCount("1/3", rounding="ceiling", base="all"),
    "count floor": FixedCount("1/7", floor=2),
    "word": WholeWord("1/3"),
    "span": Span("1/5", ("1/2", "1/4", "1/4")),
    "span of one": Span("1/2", ("1",)),
    "span of 64": Span("1/50", ("1/64",) * 64),
}
UNITS = [(law, unit) for law in LAWS for unit in ("token", "word", "span")]
UNITS = [(law, unit) for law, unit in UNITS if unit != "span" or law.startswith("span")]


def packed(rows: int, columns: int, vocab: int, seed: int) -> list[Any]:
    """Two sequences a row in scattered columns, shuffled positions, words in any order."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(vocab, size=(rows, columns)),
        rng.integers(2, size=(rows, columns, 2)).astype(np.uint32) * np.uint32(2**32 - 1),
        np.stack([rng.permutation(columns) for _ in range(rows)]).astype(np.uint32),
        rng.integers(-1, max(columns // 3, 1), size=(rows, columns)).astype(np.int32),
        rng.random((rows, columns)) < 0.9,
    ]


def assert_same_batch(seen: Any, want: Any) -> None:
    for name, a, b in zip(("inputs", "targets", "selected"), seen, want, strict=True):
        assert np.asarray(a).dtype == b.dtype, name
        np.testing.assert_array_equal(np.asarray(a), b, err_msg=name)


def closed_form(z: np.ndarray, t: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p at the targets and w(1[j = t] − p), in long double and then rounded."""
    depth = z.astype(np.longdouble) - z.max(axis=-1, keepdims=True)
    power = np.exp(depth)
    rows = np.arange(len(t))
    rest = power.copy()
    rest[rows, t] = 0
    total = power.sum(axis=-1)
    exact = np.where(depth[rows, t] == 0, -np.log1p(rest.sum(-1)), depth[rows, t] - np.log(total))
    gradient = -power / total[:, None]
    gradient[rows, t] = rest.sum(axis=-1) / total
    return exact.astype(np.float64), (w[:, None] * gradient).astype(np.float64)


def poisoned(shape: tuple[int, ...], selected: np.ndarray) -> np.ndarray:
    """Zeros where selected, NaN and +inf elsewhere."""
    values = np.where(np.arange(np.prod(shape)).reshape(shape) % 2, np.nan, np.inf)
    return np.where(selected[..., None], 0.0, values).astype(np.float32)


def score_arguments(**changes: Any) -> dict[str, Any]:
    arguments = {
        "logits": np.zeros((2, 4, 6), np.float32),
        "targets": np.ones((2, 4), np.int64),
        "selected": np.arange(8).reshape(2, 4) % 2 == 0,
        "weights": None,
    }
    return _changed(arguments, changes)


def _changed(arguments: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A change is another value, or a function that changes the array in place."""
    for name, change in changes.items():
        if callable(change):
            change(arguments[name])
        else:
            arguments[name] = change
    return arguments


def head_arguments(**changes: Any) -> dict[str, Any]:
    rest = score_arguments()
    del rest["logits"]
    rng = np.random.default_rng(0)
    arguments = {
        "hidden": rng.normal(size=(2, 4, 3)).astype(np.float32),
        "weight": rng.normal(size=(6, 3)).astype(np.float32),
        "bias": np.ones(6, np.float32),
        **rest,
    }
    return _changed(arguments, changes)


def put(index: Any, value: float) -> Any:
    return lambda array: array.__setitem__(index, value)

"""The JAX backend as a port: NumPy arrays in, NumPy arrays out (docs/architecture.md).

The entry point ``jax`` of the group ``mlm_spec.backends`` is `JaxPort`.  The functions of this
package do all the work; the port lays batches out in few shapes, so that few programs compile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jaxlib
import numpy as np

from mlm_jax import checking
from mlm_jax.head import jitted_head_step, rounded_capacity
from mlm_jax.loss import denominator
from mlm_jax.masking import checked_words, jitted_mask_step
from mlm_jax.objective import accumulator, jitted_score_step
from mlm_jax.order import RunPart, sequences_at
from mlm_jax.random_words import key_words, random_words
from mlm_jax.session import JaxSession
from mlm_jax.thresholds import make_plan
from mlm_jax.training.layout import make_mesh
from mlm_spec.batch import HeadResult, MaskedBatch, ScoreResult, Status
from mlm_spec.errors import DeviceError
from mlm_spec.policy import MaskingPolicy

__all__ = ["JaxPort"]

Array = np.ndarray
# Smaller batches are padded to these: a compilation costs more than all their work.
_FEWEST_WORDS = 64
_FEWEST_ROWS = 32
_CPU_DEVICES = 8  # of one CPU, which JAX has to be asked for before it is used


class JaxPort:
    """The backend on one device, and sessions on several.

    Parameters
    ----------
    device : ``"cpu"``, ``"cuda"`` (or ``"gpu"``), ``"tpu"``; ``"cuda:1"`` is the second of them.
        A CPU is eight devices, unless this process has used JAX before.

    Raises
    ------
    DeviceError : the device is not there.  There is no fallback.

    Notes
    -----
    float64 arguments run with ``jax.enable_x64(True)``, all others with it off, whatever the
    process has set.  float64 weights beside narrower logits are rounded to float32, once.

    Where ``JAX_COMPILATION_CACHE_DIR`` is set, JAX keeps compiled programs there, by default
    those that took a second.  Those of the port take less, so it keeps all, unless
    ``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`` is set too.
    """

    loss_reduction = "mean"
    accumulation = "any"  # XLA does not say in which order it adds

    def __init__(self, device: str = "cpu") -> None:
        self._device = _find_device(device)
        self.versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            seconds = float(os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)

    def random_words(self, key: Array, counter: Array) -> dict[str, Any]:
        """`mlm_jax.random_words.random_words`; uint32 (n, 4) each."""
        checking.check_array("key", key, ("n", 4), ("uint32",))
        checking.check_array("counter", counter, (len(key), 4), ("uint32",))
        rows = _power_of_two(len(key), _FEWEST_WORDS)
        with self._running():
            words = random_words(_padded(key, rows), _padded(counter, rows))
        return {"words": np.asarray(words)[: len(key)]}

    def mask(
        self,
        tokens: Array,
        sequence_id: Array,
        position: Array,
        word_id: Array | None,
        eligible: Array,
        policy: MaskingPolicy,
        seed: int,
        epoch: int,
    ) -> MaskedBatch:
        """`mlm_jax.masking.mask`."""
        source = (tokens, sequence_id, position, word_id, eligible)
        step = self.mask_step(*source, policy, seed, epoch)
        if step.pop("status") & Status.ID_RANGE:
            checking.refuse_ids("tokens", tokens, policy.vocab_size)
        return MaskedBatch(**step)

    def mask_step(
        self,
        tokens: Array,
        sequence_id: Array,
        position: Array,
        word_id: Array | None,
        eligible: Array,
        policy: MaskingPolicy,
        seed: int,
        epoch: int,
    ) -> dict[str, Any]:
        """`mlm_jax.masking.mask_step`; one program a shape serves every policy."""
        checking.check_mask(tokens, sequence_id, position, word_id, eligible)
        plan = make_plan(policy, tokens.shape[1], any_law=True)
        words = checked_words(word_id, policy, tokens.shape)
        key, narrow = key_words(seed, epoch), checking.narrow_ids(tokens)
        with self._running():
            step = jitted_mask_step(narrow, sequence_id, position, words, eligible, plan, key)
        # Elsewhere the caller's own ids: an id beyond int32 comes back as it was.
        selected = np.array(step.selected)
        inputs = np.where(selected, np.asarray(step.inputs).astype(tokens.dtype), tokens)
        return {
            "inputs": inputs,
            "targets": tokens.copy(),
            "selected": selected,
            "status": int(step.status),
        }

    def score(
        self, logits: Array, targets: Array, selected: Array, weights: Array | None = None
    ) -> ScoreResult:
        """`mlm_jax.objective.score`."""
        step = self._score(logits, targets, selected, weights)
        checking.explain_score(step.pop("status"), logits, targets, selected, weights)
        return ScoreResult(**step)

    def score_step(
        self,
        logits: Array,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int,
    ) -> dict[str, Any]:
        """`mlm_jax.objective.score_step`."""
        step = self._score(logits, targets, selected, weights, checking.check_capacity(capacity))
        del step["log_likelihood"]
        return step

    def loss(
        self, logits: Array, labels: Array, ignore_index: int, num_items: int | None = None
    ) -> dict[str, Any]:
        """`mlm_jax.loss.loss` with the reduction ``"mean"``; ``num_items`` has no say in it."""
        checking.check_array("labels", labels, ("B", "T"), checking.IDS)
        selected = labels != ignore_index
        by = -denominator(selected, num_items, "mean")
        step = self._score(logits, labels, selected, None, divisor=by)
        checking.explain_score(
            step["status"], logits, labels, selected, None, targets_name="labels"
        )
        total = step["sum"]
        return {"loss": total / total.dtype.type(by), "grad_logits": step["grad_logits"]}

    def _score(
        self,
        logits: Array,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int | None = None,
        divisor: int = 1,
    ) -> dict[str, Any]:
        """Score, score_step and loss: one program for each (N, V), N a power of two from 32."""
        with self._running(logits):
            checking.check_array("logits", logits, ("B", "T", "V"), checking.FLOATS)
            checking.check_score(logits, targets, selected, _beside(logits, weights))
            size, rows = selected.size, _power_of_two(selected.size, _FEWEST_ROWS)
            limit = size if capacity is None else min(capacity, size)
            arguments = (logits, checking.narrow_ids(targets), selected)
            step = jitted_score_step(
                *(_flat(x, rows) for x in (*arguments, _shares(logits, selected, weights))),
                capacity=np.int32(limit),
                divisor=np.asarray(divisor, accumulator(logits.dtype)),
            )
        return {
            "log_likelihood": _shaped(step.log_likelihood, selected.shape),
            "sum": np.asarray(step.sum),
            "count": np.asarray(step.count),
            "grad_logits": _shaped(step.grad_logits, logits.shape),
            "status": int(step.status),
        }

    def head(
        self,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        targets: Array,
        selected: Array,
        weights: Array | None = None,
    ) -> HeadResult:
        """`mlm_jax.head.head`."""
        arguments = (hidden, weight, bias, targets, selected, weights)
        step = self._head(*arguments, capacity=None)
        checking.explain_head(step.pop("status"), *arguments)
        return HeadResult(**step)

    def head_step(
        self,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int,
    ) -> dict[str, Any]:
        """`mlm_jax.head.head_step`; more rows than ``capacity`` may be set aside for it."""
        limit = checking.check_capacity(capacity)
        return self._head(hidden, weight, bias, targets, selected, weights, limit)

    def _head(
        self,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int | None,
    ) -> dict[str, Any]:
        """One program for each (N, d, V) and rounded capacity, with a bias or without one."""
        with self._running(hidden):
            checking.check_array("hidden", hidden, ("B", "T", "d"), checking.FLOATS)
            checking.check_head(hidden, weight, bias, targets, selected, _beside(hidden, weights))
            size, rows = selected.size, _power_of_two(selected.size, _FEWEST_ROWS)
            count = int(np.count_nonzero(selected))
            limit = count if capacity is None else capacity
            held = rounded_capacity(min(count, limit), rows)
            positions = (checking.narrow_ids(targets), selected, _shares(hidden, selected, weights))
            step = jitted_head_step(
                _flat(hidden, rows),
                weight,
                np.zeros(len(weight), hidden.dtype) if bias is None else bias,
                *(_flat(x, rows) for x in positions),
                capacity=held,
                limit=np.int32(min(limit, size)),
            )
        return {
            "sum": np.asarray(step.sum),
            "count": np.asarray(step.count),
            "grad_hidden": _shaped(step.grad_hidden, hidden.shape),
            "grad_weight": np.asarray(step.grad_weight),
            "grad_bias": None if bias is None else np.asarray(step.grad_bias),
            "status": int(step.status),
        }

    def order(self, position: int, number: int, count: int, seed: int) -> RunPart:
        """`mlm_jax.order.sequences_at`."""
        with self._running():
            return sequences_at(position, number, count, seed)

    def session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: MaskingPolicy | None = None,
    ) -> JaxSession:
        """`mlm_jax.session.JaxSession` on the port's device."""
        return JaxSession(encoder, training, parameters, policy, device=self._device)

    def device_session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: MaskingPolicy | None,
        rows: int,
        ids: int,
    ) -> JaxSession:
        """`mlm_jax.session.JaxSession` on a mesh of the port's kind of devices, from the first."""
        mesh = make_mesh(jax.devices(self._device.platform), rows, ids)
        about = (encoder, training, parameters, policy)
        return JaxSession(*about, device=self._device, mesh=mesh)

    def raise_for_status(self, status: int, mean: bool = False) -> None:
        """`mlm_jax.checking.raise_for_status`."""
        checking.raise_for_status(status, mean)

    @contextmanager
    def _running(self, like: object = None) -> Iterator[None]:
        """On the port's device, and with 64-bit types only for float64 arguments."""
        wide = isinstance(like, np.ndarray) and like.dtype == np.float64
        with jax.enable_x64(wide), jax.default_device(self._device):
            yield


def _find_device(name: str) -> jax.Device:
    platform, _, number = name.partition(":")
    expected = "a device that JAX has here"
    if platform == "cpu":
        _make_room()
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DeviceError("device", f"{name!r} ({reason})", expected) from error
    index = int(number) if number.isdecimal() else 0 if not number else len(devices)
    if index >= len(devices):
        raise DeviceError("device", repr(name), f"{expected}: {len(devices)} of {platform}")
    return devices[index]


def _make_room() -> None:
    """Several devices of the CPU, unless this process has used JAX already."""
    try:
        jax.config.update("jax_num_cpu_devices", _CPU_DEVICES)
    except RuntimeError:
        return  # then there are as many as there are


def _power_of_two(count: int, least: int) -> int:
    return max(1 << max(count - 1, 0).bit_length(), least)


def _padded(array: Array, rows: int) -> Array:
    """Zeros after the last row; the array itself where nothing is missing."""
    missing = rows - len(array)
    return np.pad(array, ((0, missing), *((0, 0),) * (array.ndim - 1))) if missing else array


def _flat(array: Array, rows: int) -> Array:
    """(B, T, ...) as (rows, ...): rows that are added are not selected, and change nothing."""
    return _padded(array.reshape(array.shape[0] * array.shape[1], *array.shape[2:]), rows)


def _shaped(array: jax.Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `_flat`."""
    return np.asarray(array)[: shape[0] * shape[1]].reshape(shape)


def _beside(values: Array, weights: Array | None) -> Array | None:
    """Upstream weights in a dtype that runs beside ``values``."""
    if not isinstance(weights, np.ndarray) or weights.dtype != np.float64:
        return weights
    with np.errstate(over="ignore"):  # beyond float32 is inf, and refused as such
        return weights.astype(accumulator(values.dtype))


def _shares(values: Array, selected: Array, weights: Array | None) -> Array:
    """Upstream weights in the accumulation dtype; None is ones, and the same program."""
    wide = accumulator(values.dtype)
    if weights is None:
        return np.ones(selected.shape, wide)
    return np.asarray(_beside(values, weights)).astype(wide)

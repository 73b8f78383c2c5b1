"""A training run: the one object here that changes (chapters TRN and CKP).

NumPy arrays go in and out, as everywhere at the port.  A session keeps its state on the device and
checks whatever it is given before anything runs, so a call that raises has changed nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mlm_jax.thresholds import MaskingPlan, make_plan
from mlm_jax.training.batches import Prepared, TokenBatch, prepare
from mlm_jax.training.checkpoint import Checkpoint, canonical, read_checkpoint, write_checkpoint
from mlm_jax.training.dropout import site_keys
from mlm_jax.training.gradients import Totals, add_gradients, add_objective, no_totals
from mlm_jax.training.layout import Layout
from mlm_jax.training.optimizer import Moments, make_rule
from mlm_jax.training.parameters import check_parameters, shapes
from mlm_jax.training.update import Report, TrainingState, apply_totals, mean_gradients
from mlm_spec.batch import Status
from mlm_spec.errors import CheckpointError, InputError, NotFiniteError, PolicyError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = ["JaxSession"]

Array = np.ndarray
Batches = Sequence[Mapping[str, Any]]

_FIRST_SCALE = {"float16": 2.0**16}


class JaxSession:
    """An encoder in training.

    Parameters
    ----------
    encoder, training : the fields of `EncoderConfig` and `TrainingConfig`.
    parameters : float arrays by name; rounded to float32 unless the precision is float64.
    policy : how batches of tokens are masked; None: all batches are masked already.
    device : where it runs; None: JAX's default.
    mesh : devices that share the work, in place of one: a `jax.sharding.Mesh` with the axes
        ``data``, for the rows of a batch, and ``vocabulary``, for the ids of the tied table.

    Raises
    ------
    ConfigError, PolicyError, DTypeError, ShapeError, NotFiniteError.
    DeviceError : a mesh with other axes.

    Notes
    -----
    A batch is a mapping of the fields of `mlm_spec.training.batch.TrainingBatch`.  A batch of
    tokens has tokens, word_id (or none), eligible and epoch in place of inputs, targets and
    selected.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: MaskingPolicy | None = None,
        device: jax.Device | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        self._encoder = EncoderConfig.from_mapping(encoder)
        self._training = TrainingConfig.from_mapping(training)
        self._policy = _check_policy(policy, self._encoder)
        self._device = device
        self._layout = Layout(mesh, self._encoder.vocab_size)
        precision = self._training.precision
        self._compute = jnp.dtype(precision)
        self._dtype = np.dtype("float64" if precision == "float64" else "float32")
        self._rule = make_rule(self._training, self._dtype)
        given = check_parameters(parameters, self._encoder, self._dtype)
        zeros = {name: np.zeros_like(array) for name, array in given.items()}
        scale = _FIRST_SCALE.get(precision, 1.0)
        self._start({"parameters": given, "exp_avg": zeros, "exp_avg_sq": zeros}, 0, scale, 0)

    def evaluate(self, batches: Batches) -> dict[str, Any]:
        """``sum`` in nats and ``count`` of all batches, without dropout; changes nothing."""
        totals = self._totals(self._prepared(batches), self._add_objective, gradients=False)
        return _numbers(totals)

    def gradients(self, batches: Batches) -> dict[str, Any]:
        """``sum``, ``count``, and ``gradients`` of the loss −sum / count by name; changes nothing.

        Before clipping, and with the dropout of the next update.  Zeros where nothing is selected.
        """
        totals = self._totals(self._prepared(batches), self._adder())
        found = _numbers(totals)
        with self._running():
            gradients = self._layout.on_host(mean_gradients(totals))
        return {**found, "gradients": gradients}

    def step(self, batches: Batches, sequences: int | None = None) -> dict[str, Any]:
        """One update from its micro-batches; waits for what it reports.

        Parameters
        ----------
        batches : the micro-batches of the global batch.
        sequences : how many sequences of the data they consume; None: as many as they show.

        Returns
        -------
        loss, count, norm, learning_rate, status and update, as in `mlm_jax.training.update.Report`.

        Raises
        ------
        InputError : a batch that is none, or an update beyond the schedule's last.
        """
        prepared = self._prepared(batches)
        report = self._submit(prepared, sequences)
        if int(report.status) & Status.OVERFLOW:  # without effect: again, with room for all
            report = self._submit([_roomy(p) for p in prepared], 0)
        loss, count, norm, rate, status, update = (np.asarray(x).item() for x in report)
        self._at_most = update
        return {
            "loss": loss,
            "count": count,
            "norm": norm,
            "learning_rate": rate,
            "status": status,
            "update": update,
        }

    def submit(self, batches: Batches, sequences: int | None = None) -> Report:
        """As `step`, without waiting: the report stays on the device.

        An update of tokens whose selection exceeds the room that was made for it is without effect,
        with the status ``OVERFLOW``; it is the caller's to look.
        """
        return self._submit(self._prepared(batches), sequences)

    def parameters(self) -> dict[str, Array]:
        """The parameters by name: float64, or float32 at every other precision."""
        return self._layout.on_host(self._state.moments.parameters)

    def state(self) -> dict[str, Any]:
        """All of the state but the parameters: ``update``, ``exp_avg`` and ``exp_avg_sq`` by name,
        ``loss_scale``, and ``position``, the number of sequences consumed."""
        moments = self._state.moments
        return {
            "update": int(self._state.update),
            "exp_avg": self._layout.on_host(moments.exp_avg),
            "exp_avg_sq": self._layout.on_host(moments.exp_avg_sq),
            "loss_scale": float(self._state.loss_scale),
            "position": self._position,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint; a `CheckpointError` leaves the older one as it was."""
        state, moments = self._state, self._state.moments._asdict()
        tensors = {group: self._layout.on_host(named) for group, named in moments.items()}
        numbers = (int(state.update), float(state.loss_scale), self._position)
        write_checkpoint(path, Checkpoint(tensors, *numbers, *self._texts()))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint; a `CheckpointError` leaves the session as it was."""
        found = read_checkpoint(path, shapes(self._encoder), self._dtype)
        for name, own in zip(("encoder", "training", "policy"), self._texts(), strict=True):
            if getattr(found, name) != own:
                raise CheckpointError(f"{path}: {name}", getattr(found, name) or "none", own)
        self._start(found.tensors, found.update, found.loss_scale, found.position)

    def _start(
        self,
        tensors: Mapping[str, Mapping[str, Array]],
        update: int,
        scale: float,
        position: int,
    ) -> None:
        with self._running():
            held = {group: self._layout.parameters(named) for group, named in tensors.items()}
            number = self._layout.whole(np.int32(update))
            loss_scale = self._layout.whole(np.asarray(scale, self._dtype))
            self._state = TrainingState(Moments(**held), number, loss_scale)
        self._at_most, self._position = update, position

    def _prepared(self, batches: Batches) -> list[Prepared]:
        about = (self._encoder, self._policy, self._training.seed, self._layout.rows)
        return [prepare(batch, *about) for batch in batches]

    def _submit(self, prepared: list[Prepared], sequences: int | None) -> Report:
        self._check_schedule()
        totals = self._run(prepared, self._adder(), gradients=True)
        with self._running():
            scaled = self._training.precision == "float16"
            self._state, report = apply_totals(self._state, totals, self._rule, scaled=scaled)
        self._at_most += 1
        shown = sum(p.sequences for p in prepared)
        self._position += shown if sequences is None else sequences
        return report

    def _check_schedule(self) -> None:
        """Waits only where the last update may be near: some of those submitted may be skipped."""
        last = self._training.total_updates
        if self._training.schedule != "linear" or self._at_most < last:
            return
        self._at_most = int(self._state.update)
        if self._at_most >= last:
            raise InputError("update", self._at_most + 1, f"at most total_updates, {last}")

    def _totals(
        self, prepared: list[Prepared], add: Callable[..., Totals], gradients: bool = True
    ) -> Totals:
        totals = self._run(prepared, add, gradients)
        if bool(totals.overflow):
            totals = self._run([_roomy(p) for p in prepared], add, gradients)
        return totals

    def _run(self, prepared: list[Prepared], add: Callable[..., Totals], gradients: bool) -> Totals:
        with self._running():
            totals = no_totals(
                self._state.moments.parameters, gradients=gradients, layout=self._layout
            )
            for batch, capacity, _ in prepared:
                placed = self._layout.batch(batch)
                totals = add(totals, placed, self._plan(batch), capacity)
        return totals

    def _adder(self) -> Callable[..., Totals]:
        seed = np.array([self._training.seed & 0xFFFFFFFF, self._training.seed >> 32], np.uint32)
        with self._running():
            layers = max(self._encoder.num_hidden_layers, 1)
            keys = site_keys(seed, self._state.update, layers=layers)

        def add(totals: Totals, batch: Any, plan: MaskingPlan | None, capacity: int) -> Totals:
            state = self._state
            arguments = (totals, state.moments.parameters, batch, plan, keys, state.loss_scale)
            return add_gradients(*arguments, **self._static(capacity))

        return add

    def _add_objective(
        self, totals: Totals, batch: Any, plan: MaskingPlan | None, capacity: int
    ) -> Totals:
        parameters = self._state.moments.parameters
        return add_objective(totals, parameters, batch, plan, **self._static(capacity))

    def _static(self, capacity: int) -> dict[str, Any]:
        about = {"encoder": self._encoder, "compute": self._compute, "layout": self._layout}
        return {**about, "capacity": capacity}

    def _plan(self, batch: Any) -> MaskingPlan | None:
        if self._policy is None or not isinstance(batch, TokenBatch):
            return None
        return make_plan(self._policy, batch.tokens.shape[1])

    def _texts(self) -> tuple[str, str, str]:
        policy = "" if self._policy is None else canonical(self._policy.to_mapping())
        own = (canonical(c.to_mapping()) for c in (self._encoder, self._training))
        return (*own, policy)  # type: ignore[return-value]

    @contextmanager
    def _running(self) -> Iterator[None]:
        """On the session's device, with 64-bit types only at the precision float64."""
        place: AbstractContextManager[Any] = nullcontext()
        if self._device is not None:
            place = jax.default_device(self._device)
        with jax.enable_x64(self._dtype == np.float64), place:
            yield


def _numbers(totals: Totals) -> dict[str, Any]:
    """Sum and count of what is finite."""
    total = np.array(totals.sum)
    if not np.isfinite(total):
        raise NotFiniteError("logits", "not finite", "numbers or -inf")
    return {"sum": total, "count": int(totals.count)}


def _check_policy(policy: object, encoder: EncoderConfig) -> MaskingPolicy | None:
    if policy is None:
        return None
    if not isinstance(policy, MaskingPolicy):
        raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy, or None")
    if policy.vocab_size > encoder.vocab_size:
        expected = f"at most that of the encoder, {encoder.vocab_size}"
        raise PolicyError("policy.vocab_size", policy.vocab_size, expected)
    return policy


def _roomy(prepared: Prepared) -> Prepared:
    """With room for every position."""
    return prepared._replace(capacity=int(np.prod(prepared.batch.attention_mask.shape)))

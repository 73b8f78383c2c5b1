"""A run that is fed batch by batch: NumPy arrays in, NumPy arrays out (port `session`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlm_spec.errors import (
    CheckpointError,
    DTypeError,
    InputError,
    MlmSpecError,
    NotFiniteError,
    PolicyError,
    ShapeError,
)
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_torch.checkpoint import Checkpoint, Configuration, read_checkpoint, write_checkpoint
from mlm_torch.encoder import MaskedLanguageModel
from mlm_torch.micro_batches import Given, count_sequences, on_device, read_micro_batch
from mlm_torch.optimizer import moments
from mlm_torch.precision import full_precision
from mlm_torch.replicas import ALONE, Replicas
from mlm_torch.shards import split, whole
from mlm_torch.update import KEPT, MicroBatch, Totals, Updater, UpdateReport

__all__ = ["Session"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Fields = TrainingBatch | Mapping[str, Any]
AsTensor = Callable[[str, object], Tensor]

_GROUPS = ("parameters", "exp_avg", "exp_avg_sq")
_ROOM = 64  # slots of selected positions come in multiples of it where a count is not known


class Session:
    """A run: a model, its optimiser, and how far it is.

    Parameters
    ----------
    told : encoder, training and policy.
    parameters : float arrays by name, all those of the encoder.
    device : where it runs.
    as_tensor : from an array of the caller to a tensor of the host.
    compiled : the backend of `torch.compile` for the parts of the model, or None.
    replicas : who else has micro-batches of the same updates.  Each gives its own, perhaps none,
        to calls that all make together.  Numbers and state are those of all, equal on each, and
        an error on one is an error on all.
    """

    def __init__(
        self,
        told: Configuration,
        parameters: Arrays,
        device: torch.device,
        as_tensor: AsTensor,
        compiled: str | None = None,
        replicas: Replicas = ALONE,
    ) -> None:
        if told.policy is not None and not isinstance(told.policy, MaskingPolicy):
            raise PolicyError(
                "policy", f"a {type(told.policy).__name__}", "a MaskingPolicy or None"
            )
        self._told, self._device, self._as_tensor = told, device, as_tensor
        kept = KEPT[told.training.precision]
        with torch.device("meta"):
            model = MaskedLanguageModel(told.encoder)
        model = model.to(kept)
        given = _checked(parameters, model.state_dict(), as_tensor)
        model = model.to_empty(device=device)
        model.load_state_dict(given)
        if compiled is not None:
            model.compile_parts(compiled)
        self._replicas = replicas
        self._updater = Updater(model, told.training, replicas)
        self._made, self._position, self._share = 0, 0, 4

    def evaluate(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """Sum (nats) and count over all batches, without dropout."""
        totals = self._with_room(self._read(batches), self._updater.evaluate, lambda x: x)
        return _numbers(totals)

    def gradients(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """Sum, count, and the gradients of the loss −sum/count with the next update's dropout."""
        found, gradients = self._with_room(
            self._read(batches), self._updater.gradients, lambda pair: pair[0]
        )
        parts = dict(zip(self._updater.parts, gradients, strict=True))
        return {**_numbers(found), "gradients": self._arrays(parts)}

    def step(self, batches: Iterable[Fields], sequences: int | None = None) -> dict[str, Any]:
        """One update, of which these are the micro-batches; what it did.

        Parameters
        ----------
        batches : fields of `TrainingBatch` as arrays, or tokens, eligible, epoch and perhaps
            word_id in place of inputs, targets and selected, which are then made on the device.
        sequences : how many sequences of the run's order these are; None: as many as they show.
            Replicas say so of their own.

        Returns
        -------
        loss, count, norm, learning_rate, status and update, as `UpdateReport` has them.

        Raises
        ------
        InputError : the run is at its end, and all that a bad batch raises.  Nothing happened.
        """
        self._check_not_over()
        given = self._read(batches)
        report = self._with_room(given, self._updater.update, lambda found: found)
        own = sum(map(count_sequences, given)) if sequences is None else sequences
        self._position += int(self._replicas.total(torch.tensor(own, device=self._device)))
        found = _read_report(report)
        self._made = found["update"]
        return found

    def parameters(self) -> dict[str, Array]:
        """Copies of the parameters by name."""
        return self._arrays(self._updater.parts)

    def state(self) -> dict[str, Any]:
        """All of the state but the parameters."""
        found: dict[str, Any] = {"update": self._made, "loss_scale": self._loss_scale}
        updater = self._updater
        pairs = {name: moments(updater.optimizer, part) for name, part in updater.parts.items()}
        for number, group in enumerate(_GROUPS[1:]):
            found[group] = self._arrays({name: pair[number] for name, pair in pairs.items()})
        return {**found, "position": self._position}

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, whole or not at all; else `CheckpointError`."""
        tensors = {
            name: whole(part.detach(), like).cpu().contiguous()
            for name, (part, like) in self._tensors().items()
        }
        state = Checkpoint(tensors, self._made, self._loss_scale, self._position)
        with self._together(str(path), CheckpointError):
            if self._replicas.rank == 0:
                write_checkpoint(path, state, self._told)

    @torch.no_grad()
    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same configurations; else `CheckpointError`."""
        tensors = self._tensors()
        with self._together(str(path), CheckpointError):
            likes = {name: like for name, (_, like) in tensors.items()}
            found = read_checkpoint(path, self._told, likes)
        for name, (part, like) in tensors.items():
            part.copy_(split(found.tensors[name], like))
        updater = self._updater
        updater.update_count.fill_(found.update)
        updater.loss_scale.fill_(found.loss_scale)
        for state in updater.optimizer.state.values():
            state["step"].fill_(found.update)
        self._made, self._position = found.update, found.position

    def close(self) -> None:
        """Let go of the other replicas."""
        self._replicas.leave()

    @property
    def _loss_scale(self) -> float:
        return float(self._updater.loss_scale)

    def _tensors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """All of the state under its names in a checkpoint: the part here, and the parameter."""
        found, updater = {}, self._updater
        for name, like in updater.model.named_parameters():
            part = updater.parts[name]
            parts = (part, *moments(updater.optimizer, part))
            found |= {f"{g}/{name}": (x, like) for g, x in zip(_GROUPS, parts, strict=True)}
        return found

    def _arrays(self, parts: Mapping[str, Tensor]) -> dict[str, Array]:
        """Copies as arrays of what is laid out as the parameters are, whole."""
        likes = self._updater.model.named_parameters()
        return {name: _array(whole(parts[name].detach(), like)) for name, like in likes}

    def _check_not_over(self) -> None:
        config, number = self._told.training, self._made + 1
        if config.schedule == "linear" and number > config.total_updates:
            raise InputError("update", number, f"in 1..{config.total_updates}, the total_updates")

    def _read(self, batches: Iterable[Fields]) -> list[Given]:
        """All batches, checked: a bad one is found before anything is computed."""
        told = self._told
        with self._together("batches", InputError):
            fields = [b._asdict() if isinstance(b, TrainingBatch) else b for b in batches]
            return [
                read_micro_batch(self._host_tensors(given), told.encoder, told.policy)
                for given in fields
            ]

    @contextmanager
    def _together(self, where: str, kind: type[MlmSpecError]) -> Iterator[None]:
        """An error of one replica is an error of all; nothing has happened on any."""
        error = None
        try:
            yield
        except MlmSpecError as found:
            error = found
        other = self._replicas.first_error(error, self._device)
        if other is not None:
            raise kind(where, f"refused on replica {other}", "what every replica can use")

    def _host_tensors(self, given: object) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise InputError("batch", f"a {type(given).__name__}", "a mapping of fields")
        plain = {"epoch"} | {name for name, value in given.items() if value is None}
        return {n: v if n in plain else self._as_tensor(n, v) for n, v in given.items()}

    def _with_room(
        self,
        given: list[Given],
        run: Callable[[list[MicroBatch]], Any],
        totals: Callable[[Any], Totals | UpdateReport],
    ) -> Any:
        """Run with room for the selected positions; again with more, where it was too small."""
        while True:
            micro_batches = [self._place(batch) for batch in given]
            with full_precision():
                found = run(micro_batches)
            if not bool(totals(found).overflow):
                return found
            self._share = max(1, self._share // 2)

    def _place(self, given: Given) -> MicroBatch:
        """A micro-batch on the device.

        How many positions are selected is known for arrays that came masked, and costs nothing
        to know on a CPU.  Elsewhere there is room for a share of them, so that nothing waits.
        """
        training, encoder = self._told.training, self._told.encoder
        grid = bool(encoder.attention_dropout)
        batch, layout = on_device(given, self._device, self._told.policy, training.seed, grid)
        room = given.count
        if room is None and self._device.type == "cpu":
            room = int(batch.selected.sum())
        if room is None:
            size = batch.selected.numel()
            room = min(-(-size // self._share // _ROOM) * _ROOM, size)
        return MicroBatch(batch, layout, room)


def _checked(given: object, wanted: Mapping[str, Tensor], as_tensor: AsTensor) -> dict[str, Tensor]:
    """The parameters of a model as tensors: all of them, of its shapes, finite in its dtype."""
    if not isinstance(given, Mapping):
        raise InputError("parameters", f"a {type(given).__name__}", "a mapping of arrays")
    names = (wanted.keys() - given.keys(), given.keys() - wanted.keys())
    for found, fault in zip(names, ("without", "with the unknown"), strict=True):
        if found:
            got = f"{fault} {min(map(str, found))} ({len(found)} in all)"
            raise InputError("parameters", got, "the parameters of the encoder")
    tensors = {}
    for name, like in wanted.items():
        tensor = as_tensor(f"parameters[{name!r}]", given[name])
        if not tensor.is_floating_point():
            raise DTypeError(f"parameters[{name!r}]", f"of dtype {tensor.dtype}", "a float dtype")
        if tensor.shape != like.shape:
            got = f"of shape {tuple(tensor.shape)}"
            raise ShapeError(f"parameters[{name!r}]", got, f"shape {tuple(like.shape)}")
        kept = tensor.to(like.dtype)
        if not bool(torch.isfinite(kept).all()):
            expected = f"finite numbers in {str(like.dtype).removeprefix('torch.')}"
            raise NotFiniteError(f"parameters[{name!r}]", "not finite", expected)
        tensors[name] = kept
    return tensors


def _array(tensor: Tensor) -> Array:
    """A copy as an array."""
    return tensor.detach().cpu().numpy().copy()


def _numbers(totals: Totals) -> dict[str, Any]:
    """Sum and count; the sum of a step that found no number is 0, and means nothing."""
    if bool(totals.bad):
        raise NotFiniteError("logits", "not finite", "numbers or -inf")
    return {"sum": np.float64(totals.sum.item()), "count": int(totals.count)}


def _read_report(report: UpdateReport) -> dict[str, Any]:
    """The numbers of a report; this waits for the device."""
    names = ("loss", "count", "norm", "learning_rate", "status", "update")
    return {name: getattr(report, name).item() for name in names}

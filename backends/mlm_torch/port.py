"""PyTorch as a backend of the conformance suite: NumPy arrays in, NumPy arrays out.

`bfloat16` crosses as ``ml_dtypes.bfloat16``, by its bits.  On a CPU a tensor shares the memory of
its array where it can: what the backend did to its arguments would be seen (MLM-OBJ-13, MLM-COR-9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlm_spec.batch import HeadResult, MaskedBatch, ScoreResult
from mlm_spec.errors import DTypeError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_torch.checkpoint import Configuration
from mlm_torch.device import find_device
from mlm_torch.head import HeadStep, head, head_step
from mlm_torch.loss import Reduction, loss
from mlm_torch.masking import MaskStep, mask, mask_step
from mlm_torch.objective import ScoreStep, score, score_step
from mlm_torch.order import sequences_at
from mlm_torch.random_words import make_key, random_words
from mlm_torch.replicas import ALONE, Replicas, connect_replicas
from mlm_torch.session import Session
from mlm_torch.status import raise_for_status

__all__ = ["TorchPort", "as_tensor"]

Array = NDArray[Any]


class TorchPort:
    """The ports of architecture.md on one device.

    Parameters
    ----------
    device : "cpu", "cuda" or "cuda:1".
    loss_reduction : what `loss` returns: "mean", "sum" or "sum/num_items".
    replicas : the processes that train together in a session, from `mlm_torch.join_replicas`.

    Raises
    ------
    DeviceError : the device is not there.

    >>> words = np.zeros((1, 4), np.uint32)
    >>> TorchPort().random_words(words, words).dtype
    dtype('uint32')
    """

    accumulation = "any"  # PyTorch does not say in which order it adds

    def __init__(
        self,
        device: str = "cpu",
        loss_reduction: Reduction = "mean",
        replicas: Replicas = ALONE,
    ) -> None:
        self.device = find_device(device)
        self.loss_reduction, self._replicas = loss_reduction, replicas
        self.versions = {"torch": str(torch.__version__), "numpy": np.__version__}
        if self.device.type == "cuda":
            self.versions["cuda"] = str(torch.version.cuda)

    def random_words(self, key: Array, counter: Array) -> Array:
        """As `mlm_torch.random_words`."""
        return _array(random_words(*self._tensors(key=key, counter=counter)))

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
        """As `mlm_torch.mask`."""
        batch = self._batch(tokens, sequence_id, position, word_id, eligible)
        return MaskedBatch(*_arrays(mask(*batch, policy, seed, epoch)))

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
    ) -> MaskStep:
        """As `mlm_torch.mask_step`, with the key from seed and epoch."""
        key = make_key(seed, epoch, self.device)
        batch = self._batch(tokens, sequence_id, position, word_id, eligible)
        return MaskStep(*_with_status(mask_step(*batch, policy, key)))

    def score(
        self, logits: Array, targets: Array, selected: Array, weights: Array | None = None
    ) -> ScoreResult:
        """As `mlm_torch.score`."""
        tensors = self._tensors(logits=logits, targets=targets, selected=selected, weights=weights)
        return ScoreResult(*_arrays(score(*tensors)))

    def score_step(
        self,
        logits: Array,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int,
    ) -> ScoreStep:
        """As `mlm_torch.score_step`."""
        tensors = self._tensors(logits=logits, targets=targets, selected=selected, weights=weights)
        step = score_step(*tensors, capacity)
        return ScoreStep(*_with_status(step))

    def head(
        self,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        targets: Array,
        selected: Array,
        weights: Array | None = None,
    ) -> HeadResult:
        """As `mlm_torch.head`."""
        layer = self._tensors(hidden=hidden, weight=weight, bias=bias)
        batch = self._tensors(targets=targets, selected=selected, weights=weights)
        return HeadResult(*_arrays(head(*layer, *batch)))

    def head_step(
        self,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        targets: Array,
        selected: Array,
        weights: Array | None,
        capacity: int,
    ) -> HeadStep:
        """As `mlm_torch.head_step`."""
        layer = self._tensors(hidden=hidden, weight=weight, bias=bias)
        batch = self._tensors(targets=targets, selected=selected, weights=weights)
        step = head_step(*layer, *batch, capacity)
        return HeadStep(*_with_status(step))

    def loss(
        self, logits: Array, labels: Array, ignore_index: int = -100, num_items: int | None = None
    ) -> dict[str, Array]:
        """As `mlm_torch.loss` with this port's reduction; its gradient by autograd."""
        tensors = self._tensors(logits=logits, labels=labels)
        if tensors[0].is_floating_point():
            tensors[0].requires_grad_()
        value = loss(*tensors, ignore_index, num_items, self.loss_reduction)
        (gradient,) = torch.autograd.grad(value, tensors[0])
        return {"loss": _array(value), "grad_logits": _array(gradient)}

    def order(self, position: int, number: int, count: int, seed: int) -> dict[str, Array]:
        """As `mlm_torch.sequences_at`."""
        part = sequences_at(position, number, count, seed, self.device)
        return {name: _array(numbers) for name, numbers in part._asdict().items()}

    def session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: MaskingPolicy | None = None,
    ) -> Session:
        """A training run from these parameters; see `mlm_torch.session.Session`.

        Parameters
        ----------
        encoder, training : the fields of an `EncoderConfig` and a `TrainingConfig`.
        parameters : float arrays by name, all those of the encoder.
        policy : how tokens are masked inside the update; None where batches come masked.

        Raises
        ------
        ConfigError, PolicyError, InputError, ShapeError, DTypeError, NotFiniteError.
        """
        configs = EncoderConfig.from_mapping(encoder), TrainingConfig.from_mapping(training)
        told = Configuration(*configs, policy)
        return Session(told, parameters, self.device, as_tensor, replicas=self._replicas)

    def replica_session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: MaskingPolicy | None,
        rank: int,
        size: int,
        address: str,
        sharded: bool,
    ) -> Session:
        """A run that several processes make together, seen from one of them; at most one in each.

        Parameters
        ----------
        encoder, training, parameters, policy : as in `session`, the same on all.
        rank, size, address, sharded : as in `mlm_torch.replicas.connect_replicas`.

        Raises
        ------
        NotImplementedError : this process is a replica already.
        DeviceError : there are not as many devices.
        And as `session`.
        """
        if torch.distributed.is_initialized():
            raise NotImplementedError("two runs of replicas in one process")
        device = self.device.type
        replicas, own = connect_replicas(rank, size, address, device, sharded=sharded)
        try:
            configs = EncoderConfig.from_mapping(encoder), TrainingConfig.from_mapping(training)
            told = Configuration(*configs, policy)
            return Session(told, parameters, find_device(own), as_tensor, replicas=replicas)
        except BaseException:
            replicas.leave()
            raise

    def raise_for_status(self, status: int, mean: bool = False) -> None:
        """As `mlm_torch.raise_for_status`."""
        raise_for_status(int(status), mean)

    def _batch(self, *arrays: Array | None) -> list[Any]:
        names = ("tokens", "sequence_id", "position", "word_id", "eligible")
        return self._tensors(**dict(zip(names, arrays, strict=True)))

    def _tensors(self, **arrays: Array | None) -> list[Any]:
        """The arrays as tensors on the device; None stays None."""
        tensors: list[Any] = []
        for name, array in arrays.items():
            absent = array is None and name in ("weights", "bias", "word_id")
            tensors.append(None if absent else as_tensor(name, array).to(self.device))
        return tensors


def as_tensor(name: str, array: object) -> Tensor:
    """A tensor on the CPU with the array's bits; a copy only of what PyTorch cannot take."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(name, f"a {type(array).__name__}", "a NumPy array")
    fits = array.flags.carray and array.dtype.isnative
    native = array.dtype.newbyteorder("=")
    own = array if fits else np.array(array, dtype=native, order="C", copy=True)
    if own.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(own.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(own)
    except TypeError:
        expected = "a boolean, integer or float dtype that PyTorch has"
        raise DTypeError(name, f"of dtype {array.dtype}", expected) from None


def _array(tensor: Tensor) -> Array:
    own = tensor.detach().cpu().contiguous()
    if own.dtype == torch.bfloat16:
        return own.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return own.numpy()


def _arrays(tensors: tuple[Any, ...]) -> list[Any]:
    return [None if tensor is None else _array(tensor) for tensor in tensors]


def _with_status(step: tuple[Any, ...]) -> list[Any]:
    """The arrays of a step, and its status, the last field, as a number."""
    return [*_arrays(step[:-1]), int(step[-1])]

"""One update of the parameters from micro-batches (chapter TRN).

Gradients of *sums* are added up over micro-batches and divided once, by the count of all of them.
What was found stays on the device, and the update is made or not there: nothing waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlm_spec.batch import Status
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.config import TrainingConfig
from mlm_torch.dropout import run_key
from mlm_torch.encoder import Layout, MaskedLanguageModel
from mlm_torch.optimizer import (
    clip,
    learning_rate,
    make_optimizer,
    mean_gradients,
    step_unless,
)
from mlm_torch.random_words import make_key

__all__ = ["COMPUTE", "KEPT", "MicroBatch", "Totals", "UpdateReport", "Updater"]

COMPUTE = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
KEPT = {name: torch.float64 if name == "float64" else torch.float32 for name in COMPUTE}

_FIRST_SCALE, _SMALLEST_SCALE, _LARGEST_SCALE = 2.0**16, 1.0, 2.0**32
_GOOD_UPDATES = 2000  # between two doublings of the scale


class MicroBatch(NamedTuple):
    """A masked micro-batch on the device, how it lies, and the room for selected positions."""

    batch: TrainingBatch
    layout: Layout
    capacity: int


class Totals(NamedTuple):
    """What micro-batches add up to, scalars on the device.

    Attributes
    ----------
    sum : nats, float64.
    count : of selected positions, int64.
    overflow : whether one of them had more selected positions than room.
    bad : whether one of them had no finite value.
    """

    sum: Tensor
    count: Tensor
    overflow: Tensor
    bad: Tensor


class UpdateReport(NamedTuple):
    """What an update did, scalars on the device; see `Updater.update`."""

    loss: Tensor
    count: Tensor
    norm: Tensor
    learning_rate: Tensor
    status: Tensor
    update: Tensor
    overflow: Tensor


class Updater:
    """A model in training: its optimiser, the number of updates made, the scale of the loss.

    Parameters
    ----------
    model : its parameters in the dtype in which they are kept.
    config : how it is updated.
    """

    def __init__(self, model: MaskedLanguageModel, config: TrainingConfig) -> None:
        self.model, self.config = model, config
        self.optimizer = make_optimizer(model.parameters(), config)
        device = next(model.parameters()).device
        self.update_count = torch.zeros((), dtype=torch.int64, device=device)
        # Made once: a new tensor with numbers of the host waits for the device.
        self._seed = make_key(config.seed, 0, device)[:2]
        first = _FIRST_SCALE if config.precision == "float16" else 1.0
        self.loss_scale = torch.tensor(first, dtype=torch.float64, device=device)

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> Totals:
        """Sum and count, nothing dropped and nothing changed."""
        return self._totals(micro_batches, None, backward=False)

    def gradients(self, micro_batches: Sequence[MicroBatch]) -> tuple[Totals, list[Tensor]]:
        """The gradient of the mean loss, before clipping, with the dropout of the next update.

        Of nothing it is 0.  In the order of the model's parameters.
        """
        totals, gradients = self._accumulated(micro_batches)
        mean = mean_gradients(gradients, self._divisor(totals))
        clip(gradients, mean, None)
        self.optimizer.zero_grad()
        return totals, gradients

    def update(self, micro_batches: Sequence[MicroBatch]) -> UpdateReport:
        """Make the next update, unless nothing is selected or something is not finite.

        Returns
        -------
        UpdateReport : loss = −sum / count, the norm before clipping, the rate, a word of
            `UpdateStatus`, and the number of updates made so far.  Where none was made, norm and
            rate are 0.0, and with nothing selected the loss is too.  ``overflow``: more positions
            were selected than there was room for; then nothing at all was changed.
        """
        totals, gradients = self._accumulated(micro_batches)
        mean = mean_gradients(gradients, self._divisor(totals))
        clip(gradients, mean, self.config.max_grad_norm)
        empty = totals.count == 0
        broken = (totals.bad | ~mean.finite) & ~empty
        skip = empty | broken | totals.overflow
        rate = learning_rate(self.update_count + 1, self.config)
        step_unless(self.optimizer, skip, rate)
        self.optimizer.zero_grad()
        self.update_count += ~skip
        self._rescale(broken & ~totals.overflow, skip)
        status = torch.where(empty, int(UpdateStatus.EMPTY), 0)
        status = torch.where(broken, int(UpdateStatus.NOT_FINITE), status)
        loss = (0.0 - totals.sum) / totals.count.clamp(min=1)
        norm, rate = (torch.where(skip, 0.0, value) for value in (mean.norm, rate))
        number = self.update_count.clone()
        return UpdateReport(loss, totals.count, norm, rate, status, number, totals.overflow)

    def _divisor(self, totals: Totals) -> Tensor:
        return -totals.count.clamp(min=1).double() * self._upstream(totals.count)

    def _upstream(self, count: Tensor) -> Tensor:
        """What the sum is multiplied by before it is differentiated, a power of two.

        float16 cannot hold the gradients of a long sum.  There it is about the loss scale over
        the count, so that the scale is one of the mean, and the division is still made once.
        """
        if self.config.precision != "float16":
            return self.loss_scale
        return self.loss_scale / torch.exp2(torch.frexp(count.double())[1].double())

    def _accumulated(self, micro_batches: Sequence[MicroBatch]) -> tuple[Totals, list[Tensor]]:
        """The totals, and the gradients of the sum times `_upstream`."""
        self.optimizer.zero_grad()
        run = run_key(self._seed, self.update_count + 1)
        totals = self._totals(micro_batches, run, backward=True)
        parameters = list(self.model.parameters())
        for parameter in parameters:
            if parameter.grad is None:  # no micro-batch at all
                parameter.grad = torch.zeros_like(parameter)
        return totals, [parameter.grad for parameter in parameters]

    def _totals(
        self, micro_batches: Sequence[MicroBatch], run: Tensor | None, *, backward: bool
    ) -> Totals:
        zero = torch.zeros_like(self.update_count)
        summed, word = zero.double(), zero.int()
        count = sum((given.batch.selected.sum() for given in micro_batches), start=zero)
        upstream, dtype = self._upstream(count), COMPUTE[self.config.precision]
        for batch, layout, capacity in micro_batches:
            found = self.model(batch, layout, capacity, dtype, run)
            if backward:
                (found.sum * upstream).backward()
            summed = summed + found.sum.detach().double()
            word = word | found.status
        overflow = (word & int(Status.OVERFLOW)) != 0
        return Totals(summed, count, overflow, (word & int(Status.NOT_FINITE)) != 0)

    def _rescale(self, broken: Tensor, skip: Tensor) -> None:
        """Halve the scale of the loss, or double it after each 2,000 updates (float16 only)."""
        if self.config.precision != "float16":
            return
        scale = self.loss_scale
        grown = torch.where(~skip & (self.update_count % _GOOD_UPDATES == 0), scale * 2, scale)
        self.loss_scale = torch.where(broken, scale / 2, grown).clamp(
            _SMALLEST_SCALE, _LARGEST_SCALE
        )

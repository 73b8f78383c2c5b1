"""Hugging Face's ``Trainer``, fed update by update (port `session`).

The model is ``BertForMaskedLM``.  Each update is one call of ``trainer.train()``, on a data set of
exactly its micro-batches, with ``max_steps=1`` and as many gradient accumulation steps.  The
optimiser and the scheduler are those that Trainer makes for the whole run; each new Trainer is
given them, as its argument ``optimizers`` allows, so the run goes on.  Nothing of an update is
computed here.

What its options cannot say is not claimed: dropout, whose units are torch's own to choose; masks
made inside the update; checkpoints in the documented form; an update after the last one, since
``train()`` then returns.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped, misc"

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import accelerate
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn
from transformers import Trainer as TheirTrainer

from mlm_conformance.field.hf_encoder import hf_model
from mlm_conformance.field.hf_training import labels_of, model_inputs, options_of
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.parameters import with_tied_copies

__all__ = ["HfSession", "HfTrainer", "own_loss", "summed_loss"]

Array = NDArray[Any]
LossFunction = Callable[..., torch.Tensor]

_VERSIONS = {
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "accelerate": accelerate.__version__,
}


class _Watched(TheirTrainer):
    """Trainer, and what its `training_step` was told and answered.

    The loss in its log is not used: it is added up in float32, whatever the model's dtype.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.losses: list[float] = []
        self.count = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.losses.append(loss.item())
        self.count = int(num_items_in_batch)
        return loss


class _Gradients(transformers.TrainerCallback):
    """Copies of all gradients, as they are when the optimiser is about to use them."""

    def __init__(self) -> None:
        self.found: dict[str, Array] = {}

    def on_pre_optimizer_step(self, *given: Any, model: Any, **rest: Any) -> None:
        self.found = {name: _array(p.grad) for name, p in model.named_parameters()}


class HfSession:
    """A run of Trainer that is fed update by update.

    Parameters
    ----------
    encoder, training : the configurations.
    parameters : float arrays by name.
    loss : Trainer's ``compute_loss_func``; None: the model's own loss.

    Raises
    ------
    NotImplementedError : a precision that Trainer does not have on a CPU.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        training: TrainingConfig,
        parameters: Mapping[str, Array],
        loss: LossFunction | None,
    ) -> None:
        self._encoder, self._training, self._loss = encoder, training, loss
        self._options = options_of(training)
        self._model = _model(encoder, training, parameters)
        self._made = 0
        with TemporaryDirectory() as folder:
            trainer = self._trainer(self._model, folder)
            trainer.create_optimizer_and_scheduler(training.total_updates)
        self._optimizers = trainer.optimizer, trainer.lr_scheduler

    def evaluate(self, batches: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
        """Sum and count, from Trainer's ``eval_loss``: the mean that it gives for all batches."""
        given = self._read(batches)
        with TemporaryDirectory() as folder:
            trainer = self._trainer(copy.deepcopy(self._model), folder)
            mean = trainer.evaluate(given)["eval_loss"]
        count = sum(int((batch["labels"] != -100).sum()) for batch in given)
        return {"sum": -mean * count, "count": count}

    def gradients(self, batches: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
        """Sum, count and gradients of an update without clipping, made on a copy of the model."""
        given, seen = self._read_for_update(batches), _Gradients()
        with TemporaryDirectory() as folder:
            trainer = self._trainer(
                copy.deepcopy(self._model), folder, given, {"max_grad_norm": 0.0}, callbacks=[seen]
            )
            trainer.train()
        total = -sum(trainer.losses) * trainer.count
        return {"sum": total, "count": trainer.count, "gradients": seen.found}

    def step(self, batches: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
        """One update, which Trainer makes, whatever the batches are."""
        self._check_not_over()
        given = self._read_for_update(batches)
        with TemporaryDirectory() as folder:
            trainer = self._trainer(self._model, folder, given, optimizers=self._optimizers)
            self._made += trainer.train().global_step
        skipped = trainer.accelerator.optimizer_step_was_skipped
        (log,) = (log for log in trainer.state.log_history if "grad_norm" in log)
        return {
            "loss": sum(trainer.losses),
            "count": trainer.count,
            "norm": log["grad_norm"],
            "learning_rate": log["learning_rate"],
            "status": int(UpdateStatus.NOT_FINITE if skipped else UpdateStatus.OK),
            "update": self._made,
        }

    def parameters(self) -> dict[str, Array]:
        """Copies of the model's weights by name."""
        return {name: _array(p) for name, p in self._model.named_parameters()}

    def state(self) -> dict[str, Any]:
        """The number of updates that ``train()`` counted, and the optimiser's moments."""
        optimizer, named = self._optimizers[0], dict(self._model.named_parameters())
        found: dict[str, Any] = {"update": self._made, "loss_scale": 1.0}
        for moment in ("exp_avg", "exp_avg_sq"):
            # torch.optim has none before its first step.
            found[moment] = {
                name: _array(optimizer.state[p].get(moment, torch.zeros_like(p)))
                for name, p in named.items()
            }
        return found

    def _check_not_over(self) -> None:
        training = self._training
        if training.schedule == "linear" and self._made >= training.total_updates:
            raise NotImplementedError("train() has returned; Trainer has no update after max_steps")

    def _read_for_update(self, batches: Sequence[Mapping[str, Array]]) -> list[dict[str, Any]]:
        encoder = self._encoder
        if any(Fraction(p) for p in (encoder.hidden_dropout, encoder.attention_dropout)):
            raise NotImplementedError("dropout: its units are those that torch draws")
        return self._read(batches)

    def _read(self, batches: Sequence[Mapping[str, Array]]) -> list[dict[str, Any]]:
        """What the model's ``forward`` is given, a mapping for each micro-batch."""
        dtype = np.float64 if self._training.precision == "float64" else np.float32
        found = []
        for fields in batches:
            batch = TrainingBatch(**fields)
            arrays = {**model_inputs(batch, dtype), "labels": labels_of(batch)}
            found.append({name: torch.tensor(array) for name, array in arrays.items()})
        return found

    def _trainer(
        self,
        model: Any,
        folder: str,
        given: Sequence[Mapping[str, Any]] = (),
        changes: Mapping[str, Any] = MappingProxyType({}),
        **more: Any,
    ) -> _Watched:
        """A Trainer whose data set has whole micro-batches as its examples."""
        arguments = transformers.TrainingArguments(
            folder, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no",
            logging_steps=1, remove_unused_columns=False, max_steps=1,
            per_device_train_batch_size=1, per_device_eval_batch_size=1, prediction_loss_only=True,
            gradient_accumulation_steps=max(1, len(given)),
            **{**self._options, **changes},
        )  # fmt: skip
        trainer = _Watched(
            model, arguments, data_collator=operator.itemgetter(0), train_dataset=given,
            compute_loss_func=self._loss, **more,
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer


class HfTrainer:
    """The port `session`.

    Attributes
    ----------
    versions : of the packages.
    """

    versions = _VERSIONS

    def __init__(self, loss: LossFunction | None) -> None:
        self._loss = loss

    def session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, Array],
        policy: object = None,
    ) -> HfSession:
        """A run from the start."""
        if policy is not None:
            raise NotImplementedError("masks are made by a collator, outside the update")
        told = EncoderConfig.from_mapping(encoder), TrainingConfig.from_mapping(training)
        return HfSession(*told, parameters, self._loss)


def own_loss() -> HfTrainer:
    """Trainer with the loss of ``BertForMaskedLM``."""
    return HfTrainer(None)


def summed_loss() -> HfTrainer:
    """Trainer with a loss that divides by the count that it is given."""
    return HfTrainer(_summed)


def _summed(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    logits = outputs.logits.view(-1, outputs.logits.shape[-1])
    total = nn.functional.cross_entropy(logits, labels.view(-1), reduction="sum")
    return total / num_items_in_batch


def _model(
    encoder: EncoderConfig, training: TrainingConfig, parameters: Mapping[str, Array]
) -> Any:
    dropout = {
        "hidden_dropout_prob": float(Fraction(encoder.hidden_dropout)),
        "attention_probs_dropout_prob": float(Fraction(encoder.attention_dropout)),
    }
    model = hf_model(encoder, **dropout)
    if training.precision != "float64":
        model = model.float()
    state = {name: torch.tensor(value) for name, value in with_tied_copies(parameters).items()}
    model.load_state_dict(state, strict=True)
    return model


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy().copy()

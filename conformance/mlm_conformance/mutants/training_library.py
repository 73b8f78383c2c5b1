"""All wrong trainers."""

from __future__ import annotations

from mlm_conformance.mutants import (
    training_averages,
    training_dropout,
    training_encoder,
    training_precision,
    training_state,
    training_updates,
)
from mlm_conformance.mutants.trainer import TRAINERS, WrongTrainer, correct_trainer

__all__ = [
    "TRAINERS",
    "WrongTrainer",
    "correct_trainer",
    "training_averages",
    "training_dropout",
    "training_encoder",
    "training_precision",
    "training_state",
    "training_updates",
]

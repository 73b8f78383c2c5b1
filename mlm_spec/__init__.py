"""The masked-language-modelling objective, exactly: the reference, in NumPy.

    Σ_{x∈D} Σ_{i∈A(x)} log Pr(x_i | x̄)

`mask` makes the corrupted batch, `score` and `head` give the objective as a pair
(sum in nats, count of selected positions) with its gradients.  `enclose` puts a log-likelihood
between two rationals and rounds it correctly.  ``mlm-spec list`` prints the requirements these
functions fulfil.
"""

from __future__ import annotations

from mlm_spec import presets
from mlm_spec.batch import HeadResult, MaskedBatch, ScoreResult, Status
from mlm_spec.errors import (
    CapacityError,
    CheckpointError,
    ConfigError,
    DeviceError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    InputError,
    MlmSpecError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    UndecidedError,
    WordError,
)
from mlm_spec.exact import (
    Enclosure,
    enclose,
    enclose_gradient,
    enclose_sum,
    rounded_gradient,
)
from mlm_spec.head import head
from mlm_spec.likelihood import log_likelihood, logit_gradient
from mlm_spec.loss import loss
from mlm_spec.masking import mask
from mlm_spec.objective import mean_log_likelihood, score
from mlm_spec.policy import (
    Bernoulli,
    Corruption,
    FixedCount,
    MaskingPolicy,
    Selection,
    Span,
    WholeWord,
)
from mlm_spec.random_words import Stream, random_words, split_words, threefry4x32
from mlm_spec.step import head_step, mask_step, raise_for_status, score_step
from mlm_spec.thresholds import threshold

__version__ = "0.1.0"

__all__ = [
    "Bernoulli",
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "Corruption",
    "DTypeError",
    "DeviceError",
    "EmptySelectionError",
    "Enclosure",
    "FixedCount",
    "HeadResult",
    "IdRangeError",
    "ImpossibleTargetError",
    "InputError",
    "MaskedBatch",
    "MaskingPolicy",
    "MlmSpecError",
    "NoSupportError",
    "NotFiniteError",
    "PolicyError",
    "ScoreResult",
    "SeedError",
    "Selection",
    "ShapeError",
    "Span",
    "Status",
    "Stream",
    "UndecidedError",
    "WholeWord",
    "WordError",
    "enclose",
    "enclose_gradient",
    "enclose_sum",
    "head",
    "head_step",
    "log_likelihood",
    "logit_gradient",
    "loss",
    "mask",
    "mask_step",
    "mean_log_likelihood",
    "presets",
    "raise_for_status",
    "random_words",
    "rounded_gradient",
    "score",
    "score_step",
    "split_words",
    "threefry4x32",
    "threshold",
]

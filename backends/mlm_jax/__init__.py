"""The masked-language-modelling objective in JAX.

Pure functions for compiled training steps (`mask_step`, `log_likelihood_sum`,
`head_log_likelihood_sum`, `loss_sum`, `score_step`, `head_step`), checked functions that raise
(`mask`, `score`, `head`, `loss`), `JaxSession` and `sequences_at` for training, and `JaxPort` for
the conformance suite.
"""

from __future__ import annotations

from mlm_jax.checking import raise_for_status
from mlm_jax.head import HeadStep, head, head_log_likelihood_sum, head_step
from mlm_jax.loss import loss, loss_sum
from mlm_jax.masking import MaskStep, mask, mask_step
from mlm_jax.objective import (
    ScoreStep,
    log_likelihood,
    log_likelihood_sum,
    score,
    score_step,
)
from mlm_jax.order import RunPart, sequences_at
from mlm_jax.port import JaxPort
from mlm_jax.random_words import key_words, random_words, threefry4x32
from mlm_jax.session import JaxSession
from mlm_jax.thresholds import MaskingPlan, make_plan

__all__ = [
    "HeadStep",
    "JaxPort",
    "JaxSession",
    "MaskStep",
    "MaskingPlan",
    "RunPart",
    "ScoreStep",
    "head",
    "head_log_likelihood_sum",
    "head_step",
    "key_words",
    "log_likelihood",
    "log_likelihood_sum",
    "loss",
    "loss_sum",
    "make_plan",
    "mask",
    "mask_step",
    "raise_for_status",
    "random_words",
    "score",
    "score_step",
    "sequences_at",
    "threefry4x32",
]

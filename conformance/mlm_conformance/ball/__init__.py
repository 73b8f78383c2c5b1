"""Log-likelihoods and gradients in ball arithmetic: the oracle of the reference.

What comes back is the float64 nearest to the real number.  Nothing is shared with `mlm_spec` but
the result types.  Arguments are taken to be valid; only selected positions are looked at.

    reals       an exact part and an enclosed rest; precision; rounding
    softmax     one position
    scoring     logits of a batch
    layer       hidden states and an output layer
    encoder     the encoder and the derivative of its objective, as balls around the real numbers

The rounding can be decided because the real numbers are transcendental (Lindemann-Weierstrass),
so never halfway between two floats, with these exceptions: a position with equal logits has the
probabilities 1/n, held as rationals here; and with weights of both signs, or in the gradients of
the head, terms may cancel to leave a rational.  Were that one halfway between two floats,
`UndecidedError` would say so.
"""

from __future__ import annotations

from mlm_conformance.ball.layer import head
from mlm_conformance.ball.reals import Ball, UndecidedError
from mlm_conformance.ball.scoring import (
    log_likelihood,
    log_likelihood_sum,
    logit_gradient,
    score,
)

__all__ = [
    "Ball",
    "UndecidedError",
    "head",
    "log_likelihood",
    "log_likelihood_sum",
    "logit_gradient",
    "score",
]

"""How often something was seen, against the probability that a description gives it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from mlm_conformance.distributions.binomial import p_value

__all__ = ["Event"]

_p_value = cache(p_value)


@dataclass(frozen=True, slots=True)
class Event:
    """A count of independent trials, and where its probability lies if a value of a feature holds.

    Attributes
    ----------
    what : in words, for evidence.
    count, trials : observed.
    low, high : the ends of the interval that the probability is in; equal where it is known.
    """

    what: str
    count: int
    trials: int
    low: Fraction
    high: Fraction

    @property
    def p_value(self) -> float:
        """The largest p-value of any probability in the interval: exact, and on the safe side.

        >>> Event("heads", 1, 9, Fraction(0), Fraction(0)).p_value
        0.0
        """
        if self.count < self.low * self.trials:
            return _p_value(self.count, self.trials, self.low)
        if self.count > self.high * self.trials:
            return _p_value(self.count, self.trials, self.high)
        return 1.0

    def __str__(self) -> str:
        seen = f"{self.what}: {self.count} of {self.trials}"
        if self.high == 0:
            return f"{seen}, which cannot happen" if self.count else f"{seen}, as it must be"
        if self.low == 1:
            return f"{seen}, which must be all"
        p = f"p-value {self.p_value:.1e}" if self.p_value > 0 else "p-value below 1e-300"
        if self.low == self.high:
            return f"{seen}, with probability {float(self.low):.4g}: {p}"
        return f"{seen}, with a probability of {float(self.low):.4g} to {float(self.high):.4g}: {p}"

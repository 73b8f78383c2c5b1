"""Powers to seventy digits, which the tests of the exact reference compare with."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction

WIDE = decimal.Context(prec=70)
STEP = WIDE.divide(WIDE.ln(Decimal(2)), 4096)


def two_to(exponent: float) -> Fraction:
    """2^exponent as a float64, exactly."""
    return Fraction(2.0**exponent)

"""The objective as real numbers: between two rationals, and rounded correctly.

NumPy and the standard library only, and no trust in the platform's exp or log.  The proofs are in
the annexes of the chapters LIK and GRA.
"""

from __future__ import annotations

from mlm_spec.exact.gradient import enclose_gradient, rounded_gradient
from mlm_spec.exact.likelihood import enclose, enclose_sum
from mlm_spec.exact.rounding import Enclosure

__all__ = ["Enclosure", "enclose", "enclose_gradient", "enclose_sum", "rounded_gradient"]

"""Student's distribution: how far a number may stray from others that stray by chance alike.

If x, x₁ … x_K stray from a known middle by independent normal errors of one size, then x over the
root of the mean square of the x_k has Student's distribution with K degrees of freedom (Student,
"The probable error of a mean", Biometrika 6, 1908; the middle is known, so none is lost to it).
"""

from __future__ import annotations

__all__ = ["quantile", "tail"]

_HALVINGS = 200  # of an interval of float64: after so many, its ends are neighbours


def tail(t: float, freedom: int) -> float:
    """Pr(|T| ≥ t), accurate relative to itself.

    With c = 1/(1 + t²/K) and s = √(1 − c), and K even,

        Pr(|T| < t) = s · Σ_{j < K/2} b_j cʲ,    b_j = (1·3 … (2j − 1)) / (2·4 … 2j)

    (Abramowitz and Stegun 1964, 26.7.4).  Σ b_j cʲ over all j is 1/s, so the tail is s times the
    terms that are left: sums of positive numbers, where 1 − Pr would cancel.

    Parameters
    ----------
    t : 0 or more.
    freedom : K, even.

    >>> tail(0.0, 2), round(tail(2.0**0.5, 2), 12)
    (1.0, 0.292893218813)
    """
    if freedom < 2 or freedom % 2:
        raise ValueError(f"freedom is {freedom}; expected an even number, 2 or more")
    if t == 0.0:
        return 1.0
    ratio = t * t / freedom
    c = 1.0 / (1.0 + ratio)
    coefficient, power, total, j = 1.0, 1.0, 0.0, 0
    while True:
        if j >= freedom // 2:
            before, total = total, total + coefficient * power
            if total == before:
                break
        j += 1
        coefficient *= (2 * j - 1) / (2 * j)
        power *= c
    return float((ratio * c) ** 0.5 * total)


def quantile(error: float, freedom: int) -> float:
    """The t with Pr(|T| ≥ t) = error, rounded up.

    >>> round(quantile(0.05, 32), 4)
    2.0369
    """
    low, high = 0.0, 1.0
    while tail(high, freedom) > error:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if tail(middle, freedom) > error else (low, middle)
    return high

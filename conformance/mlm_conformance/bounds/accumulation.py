"""How a backend says it adds up over the vocabulary: its accumulation class (MLM-LIK-11)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ANY_ORDER", "DTYPES", "FORM", "Accumulation", "AccumulationError"]

DTYPES = ("float64", "float32", "bfloat16", "float16")
FORM = "ORDER [SIZE] [in DTYPE], such as 'any', 'tree in float64', 'lanes 16' or 'chunks 512'"


class AccumulationError(ValueError):
    """A text that is no accumulation class."""


def _halvings(n: int) -> int:
    return math.ceil(math.log2(n)) if n > 1 else 0


# h of n terms, with u and the size; each is derived in chapter LIK, "Classes".
_DEPTHS: Mapping[str, Callable[[int, int, float], float]] = MappingProxyType(
    {
        "any": lambda n, size, u: n - 1,
        "tree": lambda n, size, u: _halvings(n),
        "pairwise": lambda n, size, u: size - 1 + _halvings(n),
        "lanes": lambda n, size, u: math.ceil(n / size) + _halvings(size),
        "chunks": lambda n, size, u: size - 1 + 12 * math.ceil(n / size),
        "compensated": lambda n, size, u: 2 + 8 * n * u,
        "exact": lambda n, size, u: 1,
    }
)
_SIZED = frozenset({"pairwise", "lanes", "chunks"})


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A class of sums over the vocabulary.

    Attributes
    ----------
    order : ``any``, ``tree``, ``pairwise``, ``lanes``, ``chunks``, ``compensated`` or ``exact``.
    size : terms of a block (``pairwise``, ``chunks``), or number of lanes; 1 for the others.
    dtype : what all is computed in; None for what the specification asks for.

    >>> Accumulation.parse("lanes 16 in float64").depth(1000, 2.0**-53)
    67.0
    """

    order: str
    size: int = 1
    dtype: str | None = None

    @classmethod
    def parse(cls, text: str) -> Accumulation:
        """The class that a backend declares.

        Raises
        ------
        AccumulationError : it is of another form.
        """
        words = text.split()
        dtype = words.pop() if words[-2:-1] == ["in"] else None
        words = words[:-1] if dtype is not None else words
        order = words[0] if words else ""
        sizes = words[1:]
        right = order in _DEPTHS and len(sizes) == (order in _SIZED)
        right = right and all(size.isdecimal() and int(size) > 0 for size in sizes)
        if not right or dtype not in (None, *DTYPES):
            raise AccumulationError(f"{text!r}; expected {FORM}; orders: {', '.join(_DEPTHS)}")
        return cls(order, int(sizes[0]) if sizes else 1, dtype)

    def depth(self, terms: int, unit: float) -> float:
        """h: additions that one of so many terms passes through, at most.

        Parameters
        ----------
        terms : V.
        unit : u of the accumulation.
        """
        depth = _DEPTHS[self.order](terms, self.size, unit)
        # A rescaling is no addition: chunks may cost more than any order of additions.
        most = depth if self.order == "chunks" else min(terms - 1, depth)
        return float(max(0, most))

    def __str__(self) -> str:
        size = f" {self.size}" if self.order in _SIZED else ""
        return f"{self.order}{size}" + (f" in {self.dtype}" if self.dtype else "")


ANY_ORDER = Accumulation("any")

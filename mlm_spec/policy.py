"""Masking policies: frozen, validated data (chapters SEL and COR).

A `MaskingPolicy` says which positions may be selected, by which law, and what a selected
position shows.  Probabilities are exact fractions.  Nothing here computes a mask.

>>> policy = MaskingPolicy(Bernoulli("3/20"), Corruption("4/5", "1/10", "1/10"),
...                        vocab_size=30522, mask_id=103, pad_id=0, special_ids=(0, 101, 102, 103))
>>> policy.pool_size
30518
>>> MaskingPolicy.from_mapping(policy.to_mapping()) == policy
True
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, SupportsIndex

from mlm_spec.errors import PolicyError

__all__ = [
    "Bernoulli",
    "Corruption",
    "FixedCount",
    "MaskingPolicy",
    "Selection",
    "Span",
    "WholeWord",
]

Exact = Fraction | int | str
Rounding = Literal["half_up", "half_even", "ceiling"]
Base = Literal["eligible", "all"]
Unit = Literal["token", "word", "span"]

_MAX_VOCAB = 2**31 - 1  # ids are int32 at every boundary
_MAX_SPAN = 64


def _probability(where: str, value: Exact) -> Fraction:
    """An exact probability.  Floats are refused: 0.15 is not 3/20."""
    if isinstance(value, bool) or not isinstance(value, Fraction | int | str):
        raise PolicyError(
            where, f"{value!r} ({type(value).__name__})", "an exact fraction, such as '3/20'"
        )
    try:
        exact = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise PolicyError(where, repr(value), "an exact fraction, such as '3/20'") from None
    if not 0 <= exact <= 1:
        raise PolicyError(where, exact, "a probability in 0..1")
    return exact


def _integer(where: str, value: object, low: int, high: int) -> int:
    """An integer, NumPy's included, as Python's; never a truth value."""
    if isinstance(value, int | SupportsIndex) and type(value).__name__ != "bool":  # NumPy's, too
        number = operator.index(value)
        if low <= number <= high:
            return number
    raise PolicyError(where, repr(value), f"an integer in {low}..{high}")


def _choice(where: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PolicyError(where, repr(value), "one of " + ", ".join(allowed))


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Each candidate is selected independently with probability ``rate`` (MLM-SEL-2)."""

    rate: Fraction

    def __init__(self, rate: Exact) -> None:
        object.__setattr__(self, "rate", _probability("selection.rate", rate))


@dataclass(frozen=True, slots=True)
class FixedCount:
    """k candidates of each sequence, k = min(candidates, cap, max(floor, round(rate · n))).

    ``base`` says what n counts: the candidates (``"eligible"``) or every position that is
    not padding (``"all"``).  ``cap`` None: no cap.  (MLM-SEL-4, MLM-SEL-5)
    """

    rate: Fraction
    floor: int
    cap: int | None
    base: Base
    rounding: Rounding

    def __init__(
        self,
        rate: Exact,
        floor: int = 0,
        cap: int | None = None,
        base: Base = "eligible",
        rounding: Rounding = "half_up",
    ) -> None:
        _choice("selection.base", base, ("eligible", "all"))
        _choice("selection.rounding", rounding, ("half_up", "half_even", "ceiling"))
        floor = _integer("selection.floor", floor, 0, 2**31 - 1)
        if cap is not None:
            cap = _integer("selection.cap", cap, 0, 2**31 - 1)
            if cap < floor:
                raise PolicyError("selection.cap", cap, f"at least the floor, {floor}")
        object.__setattr__(self, "rate", _probability("selection.rate", rate))
        object.__setattr__(self, "floor", floor)
        object.__setattr__(self, "cap", cap)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "rounding", rounding)


@dataclass(frozen=True, slots=True)
class WholeWord:
    """Each word is selected, with all its candidates, with probability ``rate`` (MLM-SEL-6, 7)."""

    rate: Fraction

    def __init__(self, rate: Exact) -> None:
        object.__setattr__(self, "rate", _probability("selection.rate", rate))


@dataclass(frozen=True, slots=True)
class Span:
    """A span starts at each position with probability ``start``; the union is selected.

    ``lengths[m - 1]`` is the probability of length m; they sum to 1 (MLM-SEL-8).
    """

    start: Fraction
    lengths: tuple[Fraction, ...]

    def __init__(self, start: Exact, lengths: tuple[Exact, ...]) -> None:
        parts = _sequence("selection.lengths", lengths)
        exact = tuple(_probability(f"selection.lengths[{i}]", p) for i, p in enumerate(parts))
        if not 1 <= len(exact) <= _MAX_SPAN:
            raise PolicyError("selection.lengths", f"{len(exact)} long", f"1..{_MAX_SPAN} lengths")
        if sum(exact) != 1:
            raise PolicyError("selection.lengths", f"of sum {sum(exact)}", "probabilities of sum 1")
        object.__setattr__(self, "start", _probability("selection.start", start))
        object.__setattr__(self, "lengths", exact)

    def rate_at(self, position: int) -> Fraction:
        """The probability that ``position`` (from 0) is covered: 1 − Π (1 − start · P(len > k)).

        The product runs over k = 0 .. min(position, longest − 1), so the first positions of a
        sequence have a lower rate than the interior.

        >>> [str(Span("1/2", ("1/2", "1/2")).rate_at(i)) for i in (0, 1, 2)]
        ['1/2', '5/8', '5/8']
        """
        missed, tail = Fraction(1), Fraction(1)
        for k in range(min(position + 1, len(self.lengths))):
            missed *= 1 - self.start * tail
            tail -= self.lengths[k]
        return 1 - missed

    @classmethod
    def with_rate(cls, rate: Exact, lengths: tuple[Exact, ...]) -> Span:
        """The span law whose interior rate is nearest to ``rate`` from below, on the 2⁻³² grid.

        >>> span = Span.with_rate("3/20", ("1/2", "1/2"))
        >>> float(span.rate_at(9))  # doctest: +ELLIPSIS
        0.14999999...
        """
        wanted = _probability("rate", rate)
        low, high = 0, 2**32
        while high - low > 1:
            middle = (low + high) // 2
            if cls(Fraction(middle, 2**32), lengths).rate_at(len(lengths)) <= wanted:
                low = middle
            else:
                high = middle
        return cls(Fraction(1) if wanted == 1 else Fraction(low, 2**32), lengths)


Selection = Bernoulli | FixedCount | WholeWord | Span


@dataclass(frozen=True, slots=True)
class Corruption:
    """What a selected position shows: the mask id, a random id of the pool, or the original.

    The three probabilities sum to 1.  ``unit`` says what shares one decision: each token, all
    the candidates of a word, or all that one span covers (MLM-COR-3, 7, 8).
    """

    mask: Fraction
    random: Fraction
    keep: Fraction
    unit: Unit

    def __init__(self, mask: Exact, random: Exact, keep: Exact, unit: Unit = "token") -> None:
        _choice("corruption.unit", unit, ("token", "word", "span"))
        for name, value in (("mask", mask), ("random", random), ("keep", keep)):
            object.__setattr__(self, name, _probability(f"corruption.{name}", value))
        total = self.mask + self.random + self.keep
        if total != 1:
            raise PolicyError("corruption", f"of sum {total}", "weights of sum 1")
        object.__setattr__(self, "unit", unit)


@dataclass(frozen=True, slots=True)
class MaskingPolicy:
    """A whole masking policy.

    Parameters
    ----------
    selection : the law that picks positions.
    corruption : what they show.
    vocab_size : V; ids run 0 .. V − 1.
    mask_id : the id of ``[MASK]``.
    pad_id : the id of padding, or None.  Padding is not counted by ``FixedCount(base="all")``.
    special_ids : ids that are never selected; ``pad_id`` is always among them.
    pool : the ids a random replacement is drawn from: ``"regular"`` (all but the special
        ids), ``"all"``, or a strictly ascending tuple of ids.

    Raises
    ------
    PolicyError : probabilities outside 0..1, weights that do not sum to 1, an empty pool,
        an id outside the vocabulary, ``unit="span"`` without a span law (MLM-ERR-7).
    """

    selection: Selection
    corruption: Corruption
    vocab_size: int
    mask_id: int
    pad_id: int | None = None
    special_ids: tuple[int, ...] = ()
    pool: Literal["regular", "all"] | tuple[int, ...] = "regular"

    def __post_init__(self) -> None:
        if not isinstance(self.selection, Bernoulli | FixedCount | WholeWord | Span):
            raise PolicyError("selection", repr(self.selection), "one of the four selection laws")
        if not isinstance(self.corruption, Corruption):
            raise PolicyError("corruption", repr(self.corruption), "a Corruption")
        vocab_size = _integer("vocab_size", self.vocab_size, 1, _MAX_VOCAB)
        object.__setattr__(self, "vocab_size", vocab_size)
        self._check_ids()
        self._check_pool()
        if self.corruption.unit == "span" and not isinstance(self.selection, Span):
            raise PolicyError("corruption.unit", "'span'", "a span law beside it")

    def _check_ids(self) -> None:
        last = self.vocab_size - 1
        object.__setattr__(self, "mask_id", _integer("mask_id", self.mask_id, 0, last))
        ids = _sequence("special_ids", self.special_ids)
        special = {_integer(f"special_ids[{i}]", v, 0, last) for i, v in enumerate(ids)}
        if self.pad_id is not None:
            object.__setattr__(self, "pad_id", _integer("pad_id", self.pad_id, 0, last))
            special.add(self.pad_id)
        object.__setattr__(self, "special_ids", tuple(sorted(special)))

    def _check_pool(self) -> None:
        if isinstance(self.pool, str):
            _choice("pool", self.pool, ("regular", "all"))
        else:
            ids = _sequence("pool", self.pool)
            pool = tuple(
                _integer(f"pool[{i}]", v, 0, self.vocab_size - 1) for i, v in enumerate(ids)
            )
            if any(a >= b for a, b in pairwise(pool)):
                raise PolicyError("pool", "not strictly ascending", "each id once, ascending")
            object.__setattr__(self, "pool", pool)
        if self.pool_size == 0 and self.corruption.random > 0:
            raise PolicyError("pool", "empty", "at least one id, since corruption.random > 0")

    @property
    def pool_size(self) -> int:
        """K, the number of ids a random replacement is drawn from."""
        if self.pool == "all":
            return self.vocab_size
        if self.pool == "regular":
            return self.vocab_size - len(self.special_ids)
        return len(self.pool)

    def to_mapping(self) -> dict[str, Any]:
        """The policy as plain data (JSON), fractions as text.  `from_mapping` reads it back."""
        law = self.selection
        fields: dict[str, Any] = {"law": _LAW_NAMES[type(law)]}
        for name in type(law).__dataclass_fields__:
            fields[name] = _plain(getattr(law, name))
        corruption = {
            n: _plain(getattr(self.corruption, n)) for n in ("mask", "random", "keep", "unit")
        }
        return {
            "selection": fields,
            "corruption": corruption,
            "vocab_size": self.vocab_size,
            "mask_id": self.mask_id,
            "pad_id": self.pad_id,
            "special_ids": list(self.special_ids),
            "pool": self.pool if isinstance(self.pool, str) else list(self.pool),
        }

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> MaskingPolicy:
        """Build a policy from plain data; unknown and missing fields are a `PolicyError`."""
        rest = _take("policy", fields, _POLICY_REQUIRED, _POLICY_OPTIONAL)
        law_fields = rest.pop("selection")
        if not isinstance(law_fields, Mapping) or law_fields.get("law") not in _LAWS:
            raise PolicyError("selection", repr(law_fields), "a law: " + ", ".join(_LAWS))
        law = _LAWS[law_fields["law"]]
        required, optional = _LAW_FIELDS[law]
        arguments = _take("selection", law_fields, ("law", *required), optional)
        del arguments["law"]
        corruption = _take(
            "corruption", rest.pop("corruption"), ("mask", "random", "keep"), ("unit",)
        )
        return cls(selection=law(**arguments), corruption=Corruption(**corruption), **rest)


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple):
        return [str(v) for v in value]
    return value


def _sequence(where: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise PolicyError(where, repr(value), "a list")
    return tuple(value)


def _take(
    where: str, fields: object, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise PolicyError(where, repr(fields), "a mapping of fields")
    missing = [name for name in required if name not in fields]
    unknown = [str(name) for name in fields if name not in (*required, *optional)]
    if missing:
        raise PolicyError(where, "without " + ", ".join(missing), "all of " + ", ".join(required))
    if unknown:
        raise PolicyError(
            where, "with " + ", ".join(unknown), "only " + ", ".join((*required, *optional))
        )
    return dict(fields)


_LAWS: dict[str, Any] = {
    "bernoulli": Bernoulli,
    "fixed_count": FixedCount,
    "whole_word": WholeWord,
    "span": Span,
}
_LAW_NAMES = {law: name for name, law in _LAWS.items()}
_LAW_FIELDS: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Bernoulli: (("rate",), ()),
    FixedCount: (("rate",), ("floor", "cap", "base", "rounding")),
    WholeWord: (("rate",), ()),
    Span: (("start", "lengths"), ()),
}
_POLICY_REQUIRED = ("selection", "corruption", "vocab_size", "mask_id")
_POLICY_OPTIONAL = ("pad_id", "special_ids", "pool")

"""Policies as plain data: some valid, most not.

What is no policy is derived from policies that are: every field of every law is left out, is of the
wrong kind, and is put where it does not belong, and every sum misses 1 by a little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from mlm_conformance.cases.bad import good_mask_call
from mlm_conformance.cases.model import PolicyCase
from mlm_spec import MaskingPolicy

__all__ = ["policies"]

Fields = dict[str, Any]
_Path = tuple[str | int, ...]

_LAWS: tuple[Fields, ...] = (
    {"law": "bernoulli", "rate": "3/20"},
    {"law": "fixed_count", "rate": "3/20", "floor": 1, "cap": 20, "base": "all",
     "rounding": "half_even"},
    {"law": "whole_word", "rate": "1"},
    {"law": "span", "start": "1/100", "lengths": ["1/2", "1/4", "1/4"]},
)  # fmt: skip
#: What a policy, its law and its corruption may leave out.
_OPTIONAL = ("pad_id", "special_ids", "pool", "floor", "cap", "base", "rounding", "unit")
_POOL = [5, 9, 63]
_SMALL = (Fraction(1, 10**7), Fraction(1, 2**40))  # by which a sum is not 1


def policies() -> tuple[PolicyCase, ...]:
    """Policies as plain data: some valid, most not, each with one thing wrong."""
    return tuple(_valid_policies()) + tuple(_invalid_policies())


def _policy_fields() -> Fields:
    policy: MaskingPolicy = good_mask_call()["policy"]
    return policy.to_mapping()


def _valid_policies() -> Iterator[PolicyCase]:
    for law in _LAWS:
        yield PolicyCase({**_policy_fields(), "selection": law}, True, law["law"])
    for numerator in (1, 2**32):  # the shares of a threshold's two sides, and none that it has
        law = {"law": "bernoulli", "rate": f"{numerator}/{2**32 + 15}"}
        yield PolicyCase({**_policy_fields(), "selection": law}, True, f"rate {law['rate']}")
    law = {"law": "span", "start": "1/100", "lengths": ["1/64"] * 64}
    yield PolicyCase({**_policy_fields(), "selection": law}, True, "64 lengths")
    for pool in ("all", "regular", [5], _POOL):
        yield PolicyCase({**_policy_fields(), "pool": pool}, True, f"pool {pool}")
    for floor, cap in ((0, 0), (0, None), (7, 7)):
        law = {**_LAWS[1], "floor": floor, "cap": cap}
        fields = {**_policy_fields(), "selection": law, "pad_id": cap}
        yield PolicyCase(fields, True, f"floor {floor}, cap and pad_id {cap}")


def _invalid_policies() -> Iterator[PolicyCase]:
    for law in _LAWS:
        whole = {**_policy_fields(), "selection": law, "pool": _POOL}
        of_law = list(_fields_of(whole, "selection"))
        yield from _misplaced(whole, "selection")
        yield from _of_wrong_kinds(whole, of_law)
        if law["law"] != "span":
            yield _changed(whole, ("corruption", "unit"), "span", f" beside {law['law']}")
    yield from _misplaced(whole, "corruption")
    yield from _misplaced(whole)
    others = [path for path in _fields_of(whole) if path[0] != "selection"]
    yield from _of_wrong_kinds(whole, others)
    for path in (("corruption", "mask"), ("selection", "lengths", 2)):
        yield from _sums(whole, path)
    yield from _unlike_any()


def _misplaced(whole: Fields, *level: str) -> Iterator[PolicyCase]:
    """A mapping without a field that it needs, and with fields that it has not."""
    inside = whole[level[0]] if level else whole
    for name in inside:
        if name not in _OPTIONAL:
            without = {other: value for other, value in inside.items() if other != name}
            fields = {**whole, level[0]: without} if level else without
            yield PolicyCase(fields, False, f"no {_written((*level, name))}: {inside}")
    every = {"selection": (dict(pair for law in _LAWS for pair in law.items()))}
    for name, value in {**every.get("".join(level), {}), "colour": "red"}.items():
        if name not in inside:
            yield _changed(whole, (*level, name), value, f" in {inside.get('law', 'a policy')}")


def _of_wrong_kinds(whole: Fields, paths: list[_Path]) -> Iterator[PolicyCase]:
    """What is no probability, no integer or no id in each field that is one."""
    for path in paths:
        name = next(part for part in reversed(path) if isinstance(part, str))
        if name in ("law", "base", "rounding", "unit"):
            yield from (_changed(whole, path, value) for value in ("another", None, True))
        elif name in _INTEGERS:
            yield from (_changed(whole, path, value) for value in _INTEGERS[name])
        else:
            yield from (_changed(whole, path, value) for value in _NO_PROBABILITIES)


_NO_PROBABILITIES: tuple[Any, ...] = (
    *("-1/2", "3/2", "1.0000001", "15%", "", "x", "1/0"),
    *(0.15, None, True, 2, -1),
)
_NO_INTEGERS: tuple[Any, ...] = (True, False, 4.0, 1.5, -1, "3")
_NO_IDS = (*_NO_INTEGERS, None, _policy_fields()["vocab_size"], 2**31)
_INTEGERS: Mapping[str, tuple[Any, ...]] = {
    "vocab_size": (*_NO_INTEGERS, None, 0, 2**31),
    "mask_id": _NO_IDS,
    "pad_id": tuple(value for value in _NO_IDS if value is not None),
    "special_ids": _NO_IDS,
    "pool": _NO_IDS,
    "floor": _NO_IDS,  # more than the cap, too
    "cap": (*_NO_INTEGERS, 0),  # less than the floor
}


def _sums(whole: Fields, path: _Path) -> Iterator[PolicyCase]:
    """A part of 1 that is a little more, or less."""
    part = Fraction(_at(whole, path))
    for small in _SMALL:
        for wrong in (part + small, part - small):
            yield _changed(whole, path, str(wrong), f", not {part}")


def _unlike_any() -> Iterator[PolicyCase]:
    """Fields that are not of their kind at all, and parts that do not fit."""
    fields = _policy_fields()
    kinds = {"mask": "4/5", "random": "1/10", "keep": "1/10"}
    for mask, random, keep in (("1/2", "1/4", "1/8"), ("1", "1/10", "0"), ("0", "0", "0")):
        kinds_of_sum = {"mask": mask, "random": random, "keep": keep}
        yield _changed(fields, ("corruption",), kinds_of_sum)
    for pool in ([], [5, 5], [9, 5], "some", None, 5):
        yield _changed(fields, ("pool",), pool)
    unknown: tuple[Any, ...] = (None, "bernoulli", [], {"law": "poisson", "rate": "1/2"})
    for law in unknown:
        yield _changed(fields, ("selection",), law)
    for corruption in (None, "4/5", [*kinds.values()]):
        yield _changed(fields, ("corruption",), corruption)
    for lengths in ([], ["1/2"], ["1/2", "1/4"], ["3/2", "-1/2"], "1", None, ["1/65"] * 65):
        yield _changed(fields, ("selection",), {"law": "span", "start": "1/2", "lengths": lengths})
    yield _changed(fields, ("selection",), {**_LAWS[1], "floor": 5, "cap": 3})
    special = list(range(fields["vocab_size"]))
    yield PolicyCase({**fields, "special_ids": special}, False, "all ids special: an empty pool")


def _fields_of(whole: Fields, *within: str) -> Iterator[_Path]:
    """The way to every field that holds no others; of a list, to its first and its last."""
    inside = whole[within[0]] if within else whole
    for name, value in inside.items():
        if isinstance(value, dict):
            yield from _fields_of(whole, name)
        elif isinstance(value, list):
            yield from ((*within, name, place) for place in sorted({0, len(value) - 1}))
        else:
            yield (*within, name)


def _at(fields: Any, path: _Path) -> Any:
    return fields if not path else _at(fields[path[0]], path[1:])


def _with(fields: Any, path: _Path, value: Any) -> Any:
    """The same, with another value there."""
    if not path:
        return value
    first, other = path[0], fields.copy()
    missing = isinstance(fields, dict) and first not in fields
    other[first] = _with(None if missing else fields[first], path[1:], value)
    return other


def _changed(whole: Fields, path: _Path, value: Any, more: str = "") -> PolicyCase:
    about = f"{_written(path)} {str(value)[:60]} ({type(value).__name__}){more}"
    return PolicyCase(_with(whole, path, value), False, about)


def _written(path: _Path) -> str:
    """As errors name it: ``selection.lengths[0]``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")

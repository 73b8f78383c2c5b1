"""Policies from anywhere, written in other ways than the normal one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mlm_conformance.cases.anywhere_masks import AnywhereMask
from mlm_conformance.cases.model import PolicyCase
from mlm_conformance.cases.numbers import generator

__all__ = ["AnywherePolicy", "normal_form", "policy_series"]

_LAWS = (("bernoulli", "token"), ("span", "span"), ("word", "word"), ("count", "token"))
_DEFAULTS: dict[str, dict[str, Any]] = {
    "policy": {"pad_id": None, "special_ids": [], "pool": "regular"},
    "selection": {"floor": 0, "cap": None, "base": "eligible", "rounding": "half_up"},
    "corruption": {"unit": "token"},
}
_CONTENTS = 2**45


@dataclass(frozen=True, slots=True)
class AnywherePolicy:
    """What a valid `PolicyCase` is made from.

    Attributes
    ----------
    number : which of the run's policies; of four in a row each has another law.
    """

    number: int

    def build(self, run_seed: int) -> PolicyCase:
        """The case; equal recipes and run seeds give equal cases."""
        law, unit = _LAWS[self.number % len(_LAWS)]
        policy = AnywhereMask(self.number, law, unit).build(run_seed).policy
        rng = generator(run_seed, _CONTENTS + self.number)
        fields = policy.to_mapping()
        for part in ("selection", "corruption"):
            fields[part] = {name: _respelt(rng, name, v) for name, v in fields[part].items()}
            fields[part] = _shortened(rng, part, fields[part])
        given = [i for i in fields["special_ids"] if i != fields["pad_id"] or rng.random() < 0.5]
        several = given * int(rng.integers(1, 3))
        fields["special_ids"] = [int(i) for i in rng.permutation(np.array(several, np.int64))]
        return PolicyCase(_shortened(rng, "policy", fields), True, "from anywhere")


_NOT_FRACTIONS = ("law", "floor", "cap", "base", "rounding", "unit")


def _respelt(rng: np.random.Generator, name: str, value: Any) -> Any:
    """A fraction, or each of a list of them, in other terms; 0 and 1 also as integers."""
    if isinstance(value, list):
        return [_respelt(rng, "", item) for item in value]
    if name in _NOT_FRACTIONS:
        return value
    exact, times = Fraction(value), int(rng.integers(1, 7))
    if exact.denominator == 1 and times == 1:
        return int(exact)
    return f"{exact.numerator * times}/{exact.denominator * times}"


def _shortened(rng: np.random.Generator, part: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Without some of the fields that say what they would say anyway."""
    usual = _DEFAULTS[part]
    return {
        name: value
        for name, value in fields.items()
        if name not in usual or value != usual[name] or rng.random() < 0.5
    }


def normal_form(fields: dict[str, Any]) -> dict[str, Any]:
    """What a valid policy's fields say, as MLM-ERR-16 has it.

    >>> short = {"selection": {"law": "whole_word", "rate": "3/6"}, "vocab_size": 9, "mask_id": 4,
    ...          "pad_id": 0, "special_ids": [7, 4], "corruption": {"mask": 1, "random": "0/3",
    ...          "keep": 0}}
    >>> normal_form(short)["selection"], normal_form(short)["special_ids"]
    ({'law': 'whole_word', 'rate': '1/2'}, [0, 4, 7])
    """
    full = {**_DEFAULTS["policy"], **fields}
    law = full["selection"]
    own = _DEFAULTS["selection"] if law["law"] == "fixed_count" else {}
    pad = [] if full["pad_id"] is None else [full["pad_id"]]
    return {
        **full,
        "selection": {name: _lowest(name, value) for name, value in {**own, **law}.items()},
        "corruption": {
            name: _lowest(name, value)
            for name, value in {**_DEFAULTS["corruption"], **full["corruption"]}.items()
        },
        "special_ids": sorted({*full["special_ids"], *pad}),
    }


def _lowest(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_lowest("", item) for item in value]
    return value if name in _NOT_FRACTIONS else str(Fraction(value))


def policy_series(number: int) -> Sequence[AnywherePolicy]:
    """Each law once for each size."""
    return [AnywherePolicy(len(_LAWS) * number + law) for law in range(len(_LAWS))]

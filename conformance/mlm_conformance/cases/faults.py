"""Bad calls made of good ones: one fault of data, in an entry that is drawn.

The specification makes no difference between entries, and programs do: a kernel that reads the
vocabulary in blocks misses the last one, and a check that was written for one row looks at one.  So
the first and the last entry are always there, in each dtype, and others are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere import AnywhereHead, AnywhereScore
from mlm_conformance.cases.anywhere_masks import every_law
from mlm_conformance.cases.masks import ROWS, MaskRecipe
from mlm_conformance.cases.model import BadCallCase
from mlm_conformance.cases.numbers import (
    DTYPES,
    HEAD_SHAPES,
    SMALL,
    HeadRecipe,
    ScoreRecipe,
    generator,
)

__all__ = ["Fault", "FaultyCall", "fault_series", "faulty_calls", "good_call", "has_faults"]

Call = dict[str, Any]
_Index = tuple[int, ...]
_CONTENTS = 2**46

_NUMBERS = {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf}
#: Ids that are none, of the size of a vocabulary and the id that stood there.  Cut to 32 bits, the
#: last two are that id.
_IDS: Mapping[str, Callable[[int, int], int]] = {
    "-1": lambda size, good: -1,
    "V": lambda size, good: size,
    "-100": lambda size, good: -100,
    "2**31 - 1": lambda size, good: 2**31 - 1,
    "2**32 more": lambda size, good: good + 2**32,
    "2**32 less": lambda size, good: good - 2**32,
}
#: What is ignored, in turns: a label that is an id, too.
_IGNORED = (-100, 5, -1, 255, -(2**31))


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: which argument has what in an entry, and the error that it is."""

    argument: str
    value: str
    error: str = "NotFiniteError"


def _faults(argument: str, *values: str, error: str = "NotFiniteError") -> list[Fault]:
    return [Fault(argument, value, error) for value in values]


_LOGITS = [
    *_faults("logits", "NaN", "+inf"),
    Fault("logits", "-inf everywhere", "NoSupportError"),
    Fault("logits", "-inf for a target", "ImpossibleTargetError"),
]
_LAYER = [
    *_faults("hidden", *_NUMBERS),
    *_faults("weight", *_NUMBERS),
    *_faults("bias", "NaN", "+inf"),
    Fault("bias", "-inf everywhere", "NoSupportError"),
    Fault("bias", "-inf for a target", "ImpossibleTargetError"),
]
_BESIDE = [*_faults("weights", *_NUMBERS), *_faults("targets", *_IDS, error="IdRangeError")]
_FAULTS: Mapping[str, list[Fault]] = {
    "mask": _faults("tokens", *_IDS, error="IdRangeError"),
    "score": [*_LOGITS, *_BESIDE],
    "head": [*_LAYER, *_BESIDE],
    "loss": [*_LOGITS, *_faults("labels", *_IDS, error="IdRangeError")],
}
_FLOATS = ("logits", "hidden", "weight", "bias")
_PARAMETERS = ("weight", "bias")  # have no positions


def good_call(port: str, dtype: str, seed: int, run_seed: int, number: int | None = None) -> Call:
    """A good call of a checked port: small, or of the run's ``number``-th size from anywhere.

    At least one position is selected, and there are weights and a bias.
    """
    recipe: Any
    if port == "mask":
        laws = ("bernoulli", "count", "word", "span")
        words = (laws[seed % 4], "1/2", "1/3 1/3 1/3", "token", 1000, seed % 30, ROWS, seed)
        recipe = MaskRecipe(*words) if number is None else every_law(number)[0]
    elif port == "head":
        layer = HeadRecipe(HEAD_SHAPES[0], dtype, 1.0, "some", True, True, seed)
        recipe = layer if number is None else AnywhereHead(number // 2, biased=True)
    elif number is None:
        recipe = ScoreRecipe(SMALL[-1], dtype, "normal", "some", True, seed)
    else:
        recipe = AnywhereScore(number, ("normal",), dtype in DTYPES[2:], weighted=True)
    arguments: Call = recipe.build(run_seed).arguments()
    return arguments


def _labelled(call: Call, fault: Fault, seed: int) -> Call:
    """The same as a call of ``loss``; what is ignored is no target, and another than the fault."""
    taken = {int(target) for target in call["targets"][call["selected"]]}
    if fault.value in _IDS:
        taken.add(_IDS[fault.value](call["logits"].shape[-1], 0))
    left = [ignored for ignored in _IGNORED if ignored not in taken]
    ignored = left[seed % len(left)]
    labels = np.where(call["selected"], call["targets"], ignored).astype(np.int64)
    about = {"ignore_index": ignored, "num_items": None}
    return {"logits": call["logits"], "labels": labels, **about}


@dataclass(frozen=True, slots=True)
class FaultyCall:
    """What a `BadCallCase` with one fault of data is made from.

    Attributes
    ----------
    port : a checked one.
    fault : its kind.
    place : ``first`` or ``last``, of the selected positions and in each other axis; ``any``.
    dtype : of the numbers.
    seed : of the rest.
    number : which of the run's sizes; None: a small one.
    """

    port: str
    fault: Fault
    place: str
    dtype: str
    seed: int
    number: int | None = None

    def build(self, run_seed: int) -> BadCallCase:
        """The case; equal recipes and run seeds give equal cases."""
        numbers = "score" if self.port == "loss" else self.port
        good = good_call(numbers, self.dtype, self.seed, run_seed, self.number)
        name, value = self.fault.argument, self.fault.value
        rng = generator(run_seed, _CONTENTS + self.seed)
        position, ids = self._position(rng, good), good.get("targets")
        if self.port == "loss":
            good = _labelled(good, self.fault, self.seed)
        axes = good[name].shape[0 if name in _PARAMETERS else 2 :]
        within = tuple(self._one(rng, length) for length in axes)
        if value == "-inf for a target" and ids is not None:
            within = (int(ids[position]),)
        entry = within if name in _PARAMETERS else (*position, *within)
        array = _spoilt(good[name], entry, value, _vocab(good))
        about = (
            f"{array.dtype.name} {name}[{', '.join(map(str, entry))}]: {value}, V={_vocab(good)}"
        )
        return BadCallCase(
            self.port, {**good, name: array}, self.fault.error, self._where(entry), good, about
        )

    def _one(self, rng: np.random.Generator, count: int) -> int:
        drawn = int(rng.integers(count))
        return {"first": 0, "last": count - 1}.get(self.place, drawn)

    def _position(self, rng: np.random.Generator, good: Call) -> _Index:
        """One that is selected; for the masks, whose tokens are ids everywhere, any."""
        everywhere = np.ones(good["tokens"].shape, np.bool_) if "tokens" in good else None
        places = np.argwhere(good["selected"] if everywhere is None else everywhere)
        return tuple(int(i) for i in places[self._one(rng, len(places))])

    def _where(self, entry: _Index) -> str:
        """What the message has to name: of a layer it may be the parameter, or the logits."""
        name = self.fault.argument
        if name in _FLOATS[1:]:
            return ""
        index = ", ".join(map(str, entry[:2]))
        return f"{name}[{index}" if name == "logits" else f"{name}[{index}]"


def _vocab(call: Call) -> int:
    if "policy" in call:
        return int(call["policy"].vocab_size)
    return call["logits"].shape[-1] if "logits" in call else len(call["weight"])


def _spoilt(array: NDArray[Any], entry: _Index, value: str, size: int) -> NDArray[Any]:
    """The array with the fault in it; ids of more than 32 bits are int64."""
    if value in _IDS:
        wrong = _IDS[value](size, int(array[entry]))
        other = array.astype(np.int64) if abs(wrong) >= 2**31 else array.copy()
        other[entry] = wrong
        return other
    other = array.copy()
    row = entry[:-1] if value == "-inf everywhere" else entry
    other[row] = _NUMBERS.get(value, -np.inf)
    return other


def _of(port: str, errors: Sequence[str]) -> list[Fault]:
    return [fault for fault in _FAULTS[port] if fault.error in errors]


def has_faults(port: str, errors: Sequence[str]) -> bool:
    """Whether a call of the port can have one that is such an error."""
    return port in _FAULTS and bool(_of(port, errors))


def faulty_calls(
    port: str, errors: Sequence[str]
) -> tuple[st.SearchStrategy[FaultyCall], tuple[FaultyCall, ...]]:
    """A strategy, and the recipes that are always in: each fault first and last, in each dtype."""
    faults = _of(port, errors)
    strategy = st.builds(
        FaultyCall,
        st.just(port),
        st.sampled_from(faults),
        st.sampled_from(["any", "any", "first", "last"]),
        st.sampled_from(DTYPES),
        st.integers(0, 2**32 - 1),
    )
    always = []
    for i, fault in enumerate(faults):
        of_numbers = fault.argument in _FLOATS
        for j in range(4 if of_numbers else 2):
            place = ("first", "last")[(i + j + j // 2) % 2]  # either with each dtype, in two faults
            dtype = DTYPES[j if of_numbers else (i + j) % 4]
            always.append(FaultyCall(port, fault, place, dtype, 4 * i + j))
    return strategy, tuple(always)


def fault_series(port: str, errors: Sequence[str]) -> Callable[[int], Sequence[FaultyCall]]:
    """For each size one fault, in turns; for a layer with every second size."""
    faults = _of(port, errors)

    def series(number: int) -> list[FaultyCall]:
        if port == "head" and number % 2:
            return []
        fault = faults[number // (2 if port == "head" else 1) % len(faults)]
        place = ("last", "any", "first", "any")[number % 4]
        dtype = DTYPES[2 * (number % 2)]
        return [FaultyCall(port, fault, place, dtype, number, number)]

    return series

"""Calls of a step with one fault of data, or with more selected positions than it has room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from mlm_conformance.cases.bad_steps import STEPS
from mlm_conformance.cases.faults import FaultyCall, fault_series, faulty_calls, good_call
from mlm_conformance.cases.model import StatusCase
from mlm_spec import Status

__all__ = ["FilledStep", "faulty_step_series", "faulty_steps"]

_BITS = {
    "IdRangeError": Status.ID_RANGE,
    "NotFiniteError": Status.NOT_FINITE,
    "NoSupportError": Status.NOT_FINITE,
    "ImpossibleTargetError": Status.NOT_FINITE,
}
#: Rooms for so many selected positions: the largest one that is too small, smaller ones, and the
#: smallest that will do.
_ROOMS: Mapping[str, Callable[[int], int]] = {
    "room for one less": lambda count: count - 1,
    "room for half": lambda count: count // 2,
    "room for one": lambda count: min(1, count - 1),
    "no room": lambda count: 0,
    "room for all": lambda count: count,
}


@dataclass(frozen=True, slots=True)
class FaultyStep:
    """What a `StatusCase` with one fault of data is made from: a bad call of the checked port."""

    port: str
    call: FaultyCall

    def build(self, run_seed: int) -> StatusCase:
        """The case; equal recipes and run seeds give equal cases."""
        bad = self.call.build(run_seed)
        room = {"capacity": bad.good["selected"].size} if "selected" in bad.good else {}
        return StatusCase(self.port, {**bad.arguments, **room}, _BITS[bad.error], bad.about)


@dataclass(frozen=True, slots=True)
class FilledStep:
    """What a `StatusCase` with just enough room or with too little is made from.

    Attributes
    ----------
    port : ``score_step`` or ``head_step``.
    room : the name of how much there is.
    full : whether all positions are selected.
    seed, number : as in `FaultyCall`.
    """

    port: str
    room: str
    full: bool = False
    seed: int = 0
    number: int | None = None

    def build(self, run_seed: int) -> StatusCase:
        """The case; equal recipes and run seeds give equal cases."""
        call = good_call(STEPS[self.port], "float32", self.seed, run_seed, self.number)
        if self.full:
            call["selected"] = call["selected"] | True
        count = int(call["selected"].sum())
        capacity = _ROOMS[self.room](count)
        status = Status.OVERFLOW if count > capacity else Status.OK
        call, about = {**call, "capacity": capacity}, f"{count} selected and {self.room}"
        return StatusCase(self.port, call, status, about)


_Step = FaultyStep | FilledStep


def faulty_steps(port: str) -> tuple[st.SearchStrategy[FaultyStep], tuple[_Step, ...]]:
    """A strategy, and the recipes that are always in: those of the checked port, and rooms."""
    strategy, always = faulty_calls(STEPS[port], tuple(_BITS))
    faulty = [FaultyStep(port, call) for call in always]
    filled = [
        FilledStep(port, room, full, seed)
        for seed, room in enumerate(_ROOMS if port != "mask_step" else ())
        for full in (False, True)
    ]
    return strategy.map(lambda call: FaultyStep(port, call)), (*faulty, *filled)


def faulty_step_series(port: str) -> Callable[[int], Sequence[_Step]]:
    """For each size one fault, room for one less, and less than that or just enough."""
    calls = fault_series(STEPS[port], tuple(_BITS))

    def series(number: int) -> Sequence[_Step]:
        faulty = [FaultyStep(port, call) for call in calls(number)]
        if port == "mask_step" or not faulty:
            return faulty
        # The room of a layer's step may be the size of a program: few sizes, then.
        others = [*_ROOMS][1:] if port == "score_step" else ["room for all"]
        rooms = ("room for one less", others[number % len(others)])
        return [*faulty, *(FilledStep(port, room, False, number, number) for room in rooms)]

    return series

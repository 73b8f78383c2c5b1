"""Chapter ERR, steps: backends with a wrong status, or with an effect that a status denies."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import (
    CapacityError,
    EmptySelectionError,
    IdRangeError,
    InputError,
    NotFiniteError,
    Status,
)

__all__ = [
    "a_fault_makes_the_sum_nan",
    "a_faulty_batch_has_no_targets",
    "a_faulty_batch_is_masked_anyway",
    "a_full_step_overflows",
    "a_head_step_looks_at_its_states_alone",
    "a_mask_step_does_nothing",
    "a_status_is_compared_as_a_whole",
    "a_step_has_a_mean",
    "a_step_raises_for_data",
    "an_empty_step_always_raises",
    "an_empty_step_never_raises",
    "an_overflow_returns_what_fits",
    "every_fault_is_a_capacity_error",
    "nothing_is_ever_raised",
    "nothing_selected_is_ok",
    "one_bit_for_all_faults",
    "positions_beyond_the_capacity_are_dropped",
    "steps_do_nothing",
    "the_last_bit_is_raised_first",
    "the_last_of_several_faults_is_reported",
    "the_status_is_always_ok",
    "unknown_bits_are_fine",
]

Call = dict[str, Any]
_CUT_OFF = (
    "https://github.com/JonasGeiping/cramming/blob/196c991/cramming/architectures/crammed_bert.py"
)
_STATUS, _FIRST = "{}_returns_its_status", "{}_returns_the_first_of_two_faults"
_FAULTY, _GOOD = "a_faulty_{}_has_no_effect", "a_good_{}_has_its_effect"
_STEPS = ("mask_step", "score_step", "head_step")


@mutant_around("MLM-ERR-11", *_STEPS, check=_STATUS)
def the_status_is_always_ok(correct: Port, call: Call) -> Any:
    """Nothing is reported."""
    return correct(**call)._replace(status=Status.OK)


@mutant_around("MLM-ERR-11", *_STEPS, check=_STATUS)
def nothing_selected_is_ok(correct: Port, call: Call) -> Any:
    """The bit for an empty selection is never set."""
    result = correct(**call)
    return result._replace(status=result.status & ~Status.EMPTY)


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def a_full_step_overflows(correct: Port, call: Call) -> Any:
    """As many selected positions as the capacity are one too many."""
    correct(**call)  # refuses what it should
    return correct(**{**call, "capacity": call["capacity"] - 1})


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS, url=_CUT_OFF)
def positions_beyond_the_capacity_are_dropped(correct: Port, call: Call) -> Any:
    """What does not fit is left out, and nobody is told."""
    return correct(**{**call, "selected": _first(call)})


def _first(call: Call) -> Any:
    """The first selected positions, as many as there is room for."""
    places = np.flatnonzero(call["selected"])[: call["capacity"]]
    kept = np.zeros(call["selected"].size, np.bool_)
    kept[places] = True
    return kept.reshape(call["selected"].shape)


@mutant_around("MLM-ERR-11", *_STEPS, check=_STATUS)
def a_step_raises_for_data(correct: Port, call: Call) -> Any:
    """A step raises at once, as a checked entry point does."""
    result = correct(**call)
    if result.status & ~Status.EMPTY:
        raise IdRangeError("a step's data", result.status.name, "good data")
    return result


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def one_bit_for_all_faults(correct: Port, call: Call) -> Any:
    """Whatever is wrong, the status is NOT_FINITE."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(status=Status.NOT_FINITE) if faulty else result


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_FIRST)
def the_last_of_several_faults_is_reported(correct: Port, call: Call) -> Any:
    """A fault of the data hides that there are too many positions, and NaN an id out of range."""
    result = correct(**call)
    room = correct(**{**call, "capacity": call["selected"].size}).status & ~Status.EMPTY
    valid = correct(**{**call, "targets": np.zeros_like(call["targets"])}).status & ~Status.EMPTY
    later = room if result.status & Status.OVERFLOW else valid
    return result._replace(status=later) if later else result


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_FAULTY)
def an_overflow_returns_what_fits(correct: Port, call: Call) -> Any:
    """An overflow is reported, and the part that fits is in the results."""
    status = correct(**call).status
    if status & Status.OVERFLOW:
        return correct(**{**call, "selected": _first(call)})._replace(status=status)
    return correct(**call)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_FAULTY)
def a_fault_makes_the_sum_nan(correct: Port, call: Call) -> Any:
    """A fault is reported, and the sum is NaN."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(sum=np.float64(np.nan)) if faulty else result


@mutant_around("MLM-ERR-12", "mask_step", check=_FAULTY)
def a_faulty_batch_is_masked_anyway(correct: Port, call: Call) -> Any:
    """An id that is out of range is reported, and the rest of the batch is masked."""
    status, last = correct(**call).status, call["policy"].vocab_size - 1
    good = correct(**{**call, "tokens": np.clip(call["tokens"], 0, last)})
    return good._replace(status=status)


@mutant_around("MLM-ERR-12", "mask_step", check=_FAULTY)
def a_faulty_batch_has_no_targets(correct: Port, call: Call) -> Any:
    """An id that is out of range is reported, and the targets are zeros."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(targets=np.zeros_like(result.targets)) if faulty else result


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def steps_do_nothing(correct: Port, call: Call) -> Any:
    """Every step is one without effect, whatever its status says."""
    gone = {name: _zero(value) for name, value in correct(**call)._asdict().items()}
    return {**gone, "status": correct(**call).status}


def _zero(value: Any) -> Any:
    return None if value is None else np.zeros_like(value)


@mutant_around("MLM-ERR-12", "mask_step", check=_GOOD)
def a_mask_step_does_nothing(correct: Port, call: Call) -> Any:
    """The tokens come back as they are, and nothing is selected."""
    result = correct(**call)
    nothing = np.zeros_like(result.selected)
    return result._replace(inputs=result.targets, selected=nothing)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_step_has_a_mean(correct: Port, call: Call) -> Any:
    """The sum of a step is divided by its count."""
    result = correct(**call)
    return result._replace(sum=result.sum / max(int(result.count), 1))


@mutant_around("MLM-ERR-13", "raise_for_status")
def unknown_bits_are_fine(correct: Port, call: Call) -> Any:
    """A number whose known bits are not set raises nothing."""
    return correct(**{**call, "status": call["status"] & 15})


@mutant("MLM-ERR-13", "raise_for_status")
def nothing_is_ever_raised(status: int, *, mean: bool = False) -> None:
    """The status is taken and not looked at."""


@mutant_around("MLM-ERR-13", "raise_for_status")
def an_empty_step_always_raises(correct: Port, call: Call) -> Any:
    """EMPTY raises, whether or not a mean is asked for."""
    return correct(**{**call, "mean": True})


@mutant_around("MLM-ERR-13", "raise_for_status")
def an_empty_step_never_raises(correct: Port, call: Call) -> Any:
    """EMPTY raises nothing, though a mean is asked for."""
    return correct(**{**call, "mean": False})


@mutant_around("MLM-ERR-13", "raise_for_status")
def every_fault_is_a_capacity_error(correct: Port, call: Call) -> Any:
    """Whatever bit is set, CapacityError is raised."""
    try:
        return correct(**call)
    except InputError:
        raise CapacityError("status", call["status"], "0") from None


@mutant("MLM-ERR-13", "raise_for_status")
def the_last_bit_is_raised_first(status: int, *, mean: bool = False) -> None:
    """Of several bits the highest decides."""
    for bit, error in (
        (Status.EMPTY if mean and status == Status.EMPTY else 0, EmptySelectionError),
        (Status.NOT_FINITE, NotFiniteError),
        (Status.ID_RANGE, IdRangeError),
        (Status.OVERFLOW, CapacityError),
    ):
        if status & bit:
            raise error("status", status, "0")


@mutant("MLM-ERR-13", "raise_for_status")
def a_status_is_compared_as_a_whole(status: int, *, mean: bool = False) -> None:
    """A status with two bits is none of the four that are known."""
    known = {1: CapacityError, 2: IdRangeError, 4: NotFiniteError}
    if mean:
        known[8] = EmptySelectionError
    if status in known:
        raise known[status]("status", status, "0")


@mutant_around("MLM-ERR-11", "head_step", check=_STATUS)
def a_head_step_looks_at_its_states_alone(correct: Port, call: Call) -> Any:
    """NaN in the weight is taken for 0."""
    weight = call["weight"]
    if not isinstance(weight, np.ndarray) or weight.dtype.kind not in "fV":
        return correct(**call)
    bad = np.isnan(weight.astype(np.float64))
    return correct(**{**call, "weight": np.where(bad, np.zeros((), weight.dtype), weight)})

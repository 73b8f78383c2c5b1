"""Which of several failures came first, and which follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlm_conformance.check import Check
from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import RequirementResult

__all__ = ["mark_consequences"]

# The way of one batch; what fails at a stage explains what fails at a later one.
_STAGES = (
    "words",
    "select",
    "replace",
    "likelihood",
    "sum",
    "gradient",
    "nothing",
    "refuse",
)
_STAGE_OF_CHAPTER = {
    "RNG": "words",
    "SEL": "select",
    "COR": "replace",
    "LIK": "likelihood",
    "OBJ": "sum",
    "GRA": "gradient",
    "HED": "gradient",
    "ERR": "refuse",
}
_STAGE_OF_REQUIREMENT = {
    # Words are seen through the selection they make.
    "MLM-RNG-2": "select",
    "MLM-RNG-3": "select",
    "MLM-RNG-4": "select",
    "MLM-RNG-5": "select",
    "MLM-RNG-6": "replace",
    # Which positions count, comes before how much each counts.
    "MLM-OBJ-1": "select",
    "MLM-OBJ-3": "select",
    "MLM-OBJ-4": "select",
    "MLM-HED-1": "sum",
    # What happens to nothing tells least: a wrong denominator shows there too.
    "MLM-OBJ-7": "nothing",
    "MLM-OBJ-13": "nothing",
    "MLM-OBJ-11": "nothing",
    "MLM-HED-6": "nothing",
}


def _stage(requirement: str) -> int:
    chapter = requirement.split("-")[1]
    return _STAGES.index(_STAGE_OF_REQUIREMENT.get(requirement, _STAGE_OF_CHAPTER[chapter]))


def mark_consequences(
    requirements: tuple[RequirementResult, ...], checks: Sequence[Check]
) -> tuple[tuple[RequirementResult, ...], str | None]:
    """The first requirement that diverged, and the rest of the failures as its consequences.

    The earliest stage comes first.  Within it a theorem comes before a comparison, since it says
    why; then the order of the specification.
    """
    theorems = {check.requirement for check in checks if check.theorem}
    failed = [r.id for r in requirements if r.outcome is Outcome.FAIL]
    if not failed:
        return requirements, None
    order = {r.id: i for i, r in enumerate(requirements)}
    first = min(failed, key=lambda name: (_stage(name), name not in theorems, order[name]))
    marked = []
    for requirement in requirements:
        # What is refused does not follow from what is computed: chapter ERR stands alone.
        stage = _stage(requirement.id)
        later = requirement.id != first and _stage(first) <= stage < _STAGES.index("refuse")
        own = tuple(
            replace(c, consequence_of=first) if later and c.outcome is Outcome.FAIL else c
            for c in requirement.checks
        )
        marked.append(replace(requirement, checks=own))
    return tuple(marked), first

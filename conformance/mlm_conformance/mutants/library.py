"""All mutants.

There is at least one for every
requirement of the specification, and for every port that the requirement is checked on.
"""

from __future__ import annotations

from mlm_conformance.mutants import (
    bad_input,
    corruption,
    gradient,
    head,
    likelihood,
    objective,
    selection,
    words,
)
from mlm_conformance.mutants.registry import REGISTERED, Mutant

__all__ = [
    "MUTANTS",
    "Mutant",
    "bad_input",
    "corruption",
    "gradient",
    "head",
    "likelihood",
    "objective",
    "selection",
    "words",
]

MUTANTS: tuple[Mutant, ...] = tuple(REGISTERED)

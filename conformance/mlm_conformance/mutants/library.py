"""All mutants, in the order of the specification.

There is at least one for every requirement, and for every port that it is checked on.
"""

from __future__ import annotations

from mlm_conformance.mutants import (
    arguments,
    bad_input,
    classes,
    corruption,
    distributions,
    distributions_alike,
    distributions_anywhere,
    distributions_holes,
    distributions_mixed,
    distributions_parallel,
    distributions_span_kinds,
    distributions_spans,
    distributions_spread,
    distributions_words,
    distributions_words_mixed,
    elsewhere,
    elsewhere_large,
    elsewhere_masks,
    gradient,
    head,
    layout,
    layouts,
    likelihood,
    losses,
    objective,
    policies,
    refusals,
    refused_losses,
    remembering,
    selection,
    sizes,
    steps,
    steps_beside,
    unseen,
    unusual,
    vocabulary,
    words,
)
from mlm_conformance.mutants.registry import REGISTERED, Mutant
from mlm_spec import text

__all__ = [
    "MUTANTS",
    "Mutant",
    "arguments",
    "bad_input",
    "classes",
    "corruption",
    "distributions",
    "distributions_alike",
    "distributions_anywhere",
    "distributions_holes",
    "distributions_mixed",
    "distributions_parallel",
    "distributions_span_kinds",
    "distributions_spans",
    "distributions_spread",
    "distributions_words",
    "distributions_words_mixed",
    "elsewhere",
    "elsewhere_large",
    "elsewhere_masks",
    "gradient",
    "head",
    "layout",
    "layouts",
    "likelihood",
    "losses",
    "objective",
    "policies",
    "refusals",
    "refused_losses",
    "remembering",
    "selection",
    "sizes",
    "steps",
    "steps_beside",
    "unseen",
    "unusual",
    "vocabulary",
    "words",
]

_ORDER = {requirement.id: place for place, requirement in enumerate(text.load())}

MUTANTS: tuple[Mutant, ...] = tuple(
    sorted(REGISTERED, key=lambda mutant: _ORDER.get(mutant.requirement, len(_ORDER)))
)

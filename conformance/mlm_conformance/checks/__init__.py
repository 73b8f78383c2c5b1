"""All checks, by chapter.  Importing this package registers them."""

from __future__ import annotations

from mlm_conformance.check import CHECKS
from mlm_conformance.checks import (
    arguments,
    bad_input,
    corruption,
    distributions,
    distributions_parallel,
    distributions_spans,
    distributions_words,
    gradient,
    head,
    head_loss,
    likelihood,
    likelihood_classes,
    likelihood_searches,
    loss,
    maskers_of_words,
    objective,
    selection,
    selection_layout,
    steps,
    words,
)

__all__ = [
    "CHECKS",
    "arguments",
    "bad_input",
    "corruption",
    "distributions",
    "distributions_parallel",
    "distributions_spans",
    "distributions_words",
    "gradient",
    "head",
    "head_loss",
    "likelihood",
    "likelihood_classes",
    "likelihood_searches",
    "loss",
    "maskers_of_words",
    "objective",
    "selection",
    "selection_layout",
    "steps",
    "words",
]

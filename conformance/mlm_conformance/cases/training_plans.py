"""Cases for sessions with a plan of their own: another ε, another decay, no warm-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from mlm_conformance.cases.training import TrainingCase, TrainingRecipe

__all__ = ["PlannedRecipe", "planned"]


@dataclass(frozen=True, slots=True)
class PlannedRecipe:
    """A `TrainingRecipe` with other fields of its `TrainingConfig`."""

    base: TrainingRecipe
    plan: tuple[tuple[str, Any], ...]

    def build(self, run_seed: int) -> TrainingCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.base.build(run_seed)
        plan = dict(self.plan)
        about = ", ".join([case.about, *(f"{name}={value}" for name, value in plan.items())])
        return replace(case, training={**case.training, **plan}, about=about)


def planned(
    recipes: tuple[st.SearchStrategy[TrainingRecipe], tuple[TrainingRecipe, ...]], **plan: Any
) -> tuple[st.SearchStrategy[PlannedRecipe], tuple[PlannedRecipe, ...]]:
    """The recipes, each with these fields of its plan."""
    fields = tuple(plan.items())
    strategy, always = recipes
    drawn = strategy.map(lambda base: PlannedRecipe(base, fields))
    return drawn, tuple(PlannedRecipe(base, fields) for base in always)

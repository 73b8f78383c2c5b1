"""Judgements of sessions that wait for their requirement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.check import Check, Context, Recipes

__all__ = ["Ready"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A check but for the id of what it tests.

    Attributes
    ----------
    judge : the judgement of a case.
    recipes : the cases it is for.
    needs : what must have been seen.
    method : the method of a session without which it is not claimed.
    theorem : whether it needs no reference to say what is wrong.
    share : the part of a profile's examples it draws.
    """

    judge: Callable[[Context, TrainingCase], None]
    recipes: Recipes
    needs: tuple[str, ...]
    method: str = "gradients"
    theorem: bool = False
    share: float = 0.1

    @property
    def name(self) -> str:
        """Of the function."""
        return self.judge.__name__

    def check(self, requirement: str, recipes: Recipes | None = None) -> Check:
        """The check of a requirement; on cases of its own, where ``recipes`` are given."""
        strategy, always = self.recipes if recipes is None else recipes
        judge: Any = self.judge
        return Check(
            requirement, self.name, "session", self.theorem, strategy, tuple(always), self.needs,
            self.method, (), self.share, judge, stream=self.name,
        )  # fmt: skip

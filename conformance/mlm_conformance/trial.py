"""One run of a check over its cases: those that are always in, and those Hypothesis draws."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as use_seed
from hypothesis import target as climb

from mlm_conformance.check import Check, Fixed, LastCall, NotClaimed, Violation
from mlm_conformance.profiles import Profile
from mlm_conformance.results import Sensitivity, Worst
from mlm_conformance.session import Session

__all__ = ["Trial", "draw", "recipes_of"]


class Trial:
    """One run of a check over its cases; remembers the case it was at."""

    def __init__(self, session: Session, check: Check) -> None:
        self.session, self.check = session, check
        self._context = session.context()
        self.examples = 0
        self.refusals: list[str] = []
        self.case: Any = None
        self.last_call: LastCall | None = None
        self._failing: set[Any] = set()
        self._failed_at: float | None = None

    @property
    def seen(self) -> Counter[str]:
        return self._context.seen

    @property
    def sensitivities(self) -> list[Sensitivity]:
        """What its tests can see, worked out now."""
        return [test for tests in self._context.sensed for test in tests()]

    @property
    def worst(self) -> Worst | None:
        return self._context.worst

    def run(self) -> None:
        """All cases.  A case that the target refuses hides nothing that a later one shows.

        Raises
        ------
        NotClaimed : no case is violated, and the target refuses some.
        """
        for recipe in self.check.listed(self.session.profile):
            self._judge_or_refused(recipe)
        draw(self.check, self.session.profile, self.session.seed, self._judge_within_budget)
        if self.refusals:
            refused, cases = len(self.refusals), self.examples
            some = f" ({refused} of {cases} cases refused)" if refused < cases else ""
            raise NotClaimed(f"{self.refusals[0]}{some}")

    def _judge_within_budget(self, recipe: Any) -> None:
        """`_judge`, but shrinking ends in time: known failures fail again, the rest is let be."""
        late = self._failed_at is not None and (
            time.perf_counter() - self._failed_at > self.session.profile.simplify_seconds
        )
        if late and recipe not in self._failing:
            return
        try:
            self._judge_or_refused(recipe)
            if self.check.climbs:
                climb(self._context.case_ratio)
        except Violation:
            self._failing.add(recipe)
            self._failed_at = self._failed_at or time.perf_counter()
            raise

    def _judge_or_refused(self, recipe: Any) -> None:
        try:
            self._judge(recipe)
        except NotClaimed as refusal:
            self.refusals.append(str(refusal))

    def _judge(self, recipe: Any) -> None:
        self.case = recipe.build(self.session.seed)
        self.examples += 1
        self._context.case, self._context.case_ratio = str(self.case), 0.0
        self._context.recipe = _written(recipe, self.session.seed)
        self.check.judge(self._context, self.case)

    def violates(self, case: Any) -> str | None:
        """The message of the violation on another case; None where there is none."""
        context = self.session.context()
        context.case = str(case)
        try:
            self.check.judge(context, case)
        except Violation as error:
            self.last_call = context.last_call
            return str(error)
        except Exception:  # a case that cannot be judged is no smaller failure
            return None
        return None


def draw(check: Check, profile: Profile, seed: int, each: Callable[[Any], object]) -> None:
    """``each`` gets the recipes that Hypothesis draws for a check; one that raises is shrunk."""
    if check.strategy is None or not check.drawn(profile):
        return

    @use_seed(_digest(seed, check.stream))
    @settings(
        max_examples=check.drawn(profile),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.target, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(check.strategy)
    def drawn(recipe: Any) -> None:
        each(recipe)

    drawn()


def recipes_of(check: Check, profile: Profile, seed: int) -> list[Any]:
    """All recipes of a check, in the order in which a target that passes meets them.

    Where a check climbs, those of a search that sees no errors.
    """
    found = check.listed(profile)
    draw(check, profile, seed, found.append)
    return found


def _written(recipe: Any, run_seed: int) -> str:
    """A line of Python that makes the case again; "" where the case itself is all there is."""
    if isinstance(recipe, Fixed):
        return ""
    return "; ".join([*sorted(set(_imports(recipe))), f"{recipe!r}.build({run_seed})"])


def _imports(recipe: Any) -> Iterator[str]:
    """What brings the names of a recipe, and of recipes in it."""
    yield f"from {type(recipe).__module__} import {type(recipe).__name__}"
    for part in (getattr(recipe, f.name) for f in fields(recipe)):
        if is_dataclass(part):
            yield from _imports(part)


def _digest(run_seed: int, name: str) -> int:
    """The run's seed enters every stream of draws."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {name}".encode()).digest()[:8], "big")

"""What a check is: one requirement, one port, cases, and a judgement.

    @check("MLM-SEL-2", port="mask", recipes=mask_recipes(laws=["bernoulli"]), needs=["selected"])
    def bernoulli_selects_below_the_threshold(context, case): ...

A check raises `Violation` when the requirement does not hold on the case.  It counts what it
really saw; a check that never saw what it needs is an error, not a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.accuracy import Accuracy
from mlm_conformance.bounds import Accumulation
from mlm_conformance.cases.model import Case
from mlm_conformance.oracle import Oracle
from mlm_conformance.ports import OPENS
from mlm_conformance.process import Answer
from mlm_conformance.profiles import Profile
from mlm_conformance.results import Sensitivity, Worst
from mlm_conformance.together import Together

__all__ = [
    "CHECKS",
    "Broken",
    "Check",
    "Context",
    "Fixed",
    "LastCall",
    "NotClaimed",
    "Recipe",
    "Series",
    "Target",
    "Unmeasurable",
    "Violation",
    "check",
    "table",
]


class Violation(Exception):
    """The requirement does not hold on this case; the message says observed and expected.

    ``what`` names the quantity that was compared, such as ``"inputs of part 2"``; "" where a
    fact was missing.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class Broken(Exception):
    """The target gave no answer to judge: it died, or ran out of time."""


class Unmeasurable(Exception):
    """What the check looks at cannot be observed here: not run, and never a pass."""


class NotClaimed(Exception):
    """The target says that it does not do what the check looks at: not claimed."""


class Recipe(Protocol):
    """A few parameters that make a case."""

    def build(self, run_seed: int) -> Any:
        """The case."""


class Target(Protocol):
    """What answers calls: a child process, or an object in this one."""

    def call(
        self,
        port: str,
        /,
        *,
        measure_memory: bool = False,
        watch_random: bool = False,
        keep_results: bool = False,
        layout: str = "",
        **args: Any,
    ) -> Answer:
        """One call of one port."""

    @property
    def pid(self) -> int | None:
        """The number of the process in which calls are answered; None: not known, or not ours."""


class LastCall(NamedTuple):
    """A call that was made: its port, its arguments, and how their arrays lay ("": in C order)."""

    port: str
    arguments: dict[str, Any]
    layout: str


@dataclass(slots=True)
class Context:
    """What a check works with; one for each run of a check.

    ``layout``: how the arrays of calls are to lie, one of `mlm_conformance.layouts.LAYOUTS`; "":
    in C order.  ``together``: the same target in several processes; None: there are none.
    """

    target: Target
    oracle: Oracle
    claims: frozenset[str]
    loss_reduction: str | None
    device: str = "cpu"
    accumulation: Accumulation | None = None
    accuracy: Accuracy = field(default_factory=Accuracy)
    seen: Counter[str] = field(default_factory=Counter)
    worst: Worst | None = None
    case: str = ""
    recipe: str = ""
    case_ratio: float = 0.0
    last_call: LastCall | None = None
    layout: str = ""
    together: Together | None = None
    sensed: list[Callable[[], Iterable[Sensitivity]]] = field(default_factory=list)

    def saw(self, what: str, count: int | np.integer[Any] = 1) -> None:
        """Count what really occurred."""
        self.seen[what] += int(count)

    def answer(self, port: str, arguments: dict[str, Any], **watch: bool) -> Answer:
        """One call, whatever comes of it; a dead or late target is `Broken`."""
        self.last_call = LastCall(port, arguments, self.layout)
        asked: dict[str, Any] = {**watch, **({"layout": self.layout} if self.layout else {})}
        answer = self.target.call(port, **asked, **arguments)
        if answer.kind in ("died", "timed_out"):
            tail = f"\n{answer.output}" if answer.output else ""
            raise Broken(f"{port} {answer.text}{tail}")
        if answer.kind != "malformed" and answer.layout != self.layout:
            raise Unmeasurable("the target's process does not say how the arrays of a call lay")
        return answer

    def call(self, port: str, arguments: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """One call that must succeed: its result, by field.  An error is a `Violation`."""
        return self.result_of(port, self.answer(port, arguments))

    def result_of(self, port: str, answer: Answer) -> dict[str, NDArray[Any]]:
        """The fields of an answer that must be a result; else a `Violation`."""
        if answer.kind == "raised":
            assert answer.raised is not None
            said = f"{port} raised {answer.raised.type}: {answer.raised.message}"
            raise Violation(said, "raised")
        if answer.kind == "malformed":
            raise Violation(answer.text)
        return {k: v for k, v in answer.fields.items() if v is not None}

    def sees(self, *tests: Sensitivity) -> None:
        """Keep what the tests of this check can see."""
        self.sensed.append(lambda: tests)

    def sees_what(self, works_out: Callable[[], Iterable[Sensitivity]]) -> None:
        """The same, worked out by whoever asks for it: that takes longer than the test."""
        self.sensed.append(works_out)

    def require(self, holds: bool | np.bool_, message: str) -> None:
        """A fact that must hold."""
        if not holds:
            raise Violation(message)

    def equal(self, what: str, observed: NDArray[Any], expected: Any) -> None:
        """Equality, entry by entry; the message names the first entry that differs.

        NaN equals NaN: that two answers agree is one fact, that they are numbers another.
        """
        want, seen = np.asarray(expected), np.asarray(observed)
        if seen.shape != want.shape:
            raise Violation(f"{what} has shape {seen.shape}, should be {want.shape}", what)
        if (seen == want).all():
            return
        differs = (seen != want) & ~((seen != seen) & (want != want))
        if differs.any():
            first = tuple(int(i) for i in np.argwhere(differs)[0])
            label = f"{what}[{', '.join(map(str, first))}]" if first else what
            count = int(differs.sum())
            more = f" ({count} of {differs.size} differ)" if count > 1 else ""
            said = f"is {seen[first]}, should be {want[first]}"
            if want[first] != want[first]:
                said = _no_number_to_agree_with(f"{seen[first]}")
            raise Violation(f"{label} {said}{more}", what)

    def within(
        self,
        what: str,
        observed: NDArray[Any],
        expected: Any,
        bound: Any,
        kind: str = "any-order bound",
    ) -> None:
        """|observed − expected| ≤ bound, entry by entry; keeps the worst ratio.

        Raises
        ------
        Violation : it is not.
        Unmeasurable : the bound of an entry is infinite, so that every number would pass.
        """
        seen = np.asarray(observed).astype(np.float64)
        want = np.asarray(expected, dtype=np.float64)
        limit = np.broadcast_to(np.asarray(bound, dtype=np.float64), want.shape)
        if seen.shape != want.shape:
            raise Violation(f"{what} has shape {seen.shape}, should be {want.shape}", what)
        if seen.size == 0:
            return
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.where(seen == want, 0.0, np.abs(seen - want))
            ratio = np.where(error == 0.0, 0.0, error / limit)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)  # a NaN is never within a bound
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        found = (float(ratio[at]), float(error[at]), float(limit[at]))
        self._keep(Worst(*found, what, self.case, self.recipe))
        if not ratio[at] <= 1.0:
            where = f"[{', '.join(str(int(i)) for i in at)}]" if at else ""
            said = f"is {_told_apart(seen[at], want[at])} ± {limit[at]:.3g}"
            if np.isnan(want[at]):
                said = _no_number_to_agree_with(f"{seen[at]:.9g}")
            raise Violation(f"{what}{where} {said} [{self.case}, {kind}]", what)
        if not np.isfinite(limit).all():
            raise Unmeasurable(
                f"nothing can be certified about {what} [{self.case}, {kind}]: so many additions "
                "at this precision have no bound, h·u ≥ 1 (chapter LIK, Bounds)"
            )

    def _keep(self, worst: Worst) -> None:
        self.case_ratio = max(self.case_ratio, worst.ratio)
        if self.worst is None or worst.ratio > self.worst.ratio:
            self.worst = worst


def _no_number_to_agree_with(seen: str) -> str:
    """What is wanted is NaN only where it is another answer of the target's own."""
    if seen == "nan":
        return (
            "is nan, should be a number: the target's answer that it should agree with is nan too"
        )
    return f"is {seen}, and the target's answer that it should agree with is nan, not a number"


def _told_apart(seen: float, want: float) -> str:
    """``-0.5, should be -0.4``, with as many digits as show the difference."""
    texts = [(f"{seen:.{digits}g}", f"{want:.{digits}g}") for digits in (9, 13, 17)]
    first, second = next((pair for pair in texts if pair[0] != pair[1]), texts[-1])
    return f"{first}, should be {second}"


Judge = Callable[[Context, Any], None]
Recipes = tuple[st.SearchStrategy[Any] | None, Sequence[Recipe]]
Series = Callable[[int], Sequence[Recipe]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: exactly one requirement, on one port.

    Attributes
    ----------
    requirement : its id.
    name : its function's name.
    port : the method that the target must have.
    theorem : whether it needs no reference.
    strategy : draws recipes; None where ``always`` is the whole table.
    always : recipes that run whatever is drawn.
    needs : what must have been seen at least once; otherwise the check is an error.
    result_field : an optional result without which this is not claimed, such as "grad_logits".
    reductions : the ``loss_reduction`` values that it applies to; empty: any.
    share : the part of a profile's examples it draws (a costly check draws fewer).
    judge : the function.
    declared : whether it applies only where an accumulation class is declared.
    climbs : whether the search goes towards larger errors, measured by their bounds.
    stream : what its draws are seeded with; checks with one strategy and one stream draw the same.
    series : the recipes of the n-th size that a profile asks for; None where sizes tell nothing.
    """

    requirement: str
    name: str
    port: str
    theorem: bool
    strategy: st.SearchStrategy[Any] | None
    always: tuple[Recipe, ...]
    needs: tuple[str, ...]
    result_field: str | None
    reductions: tuple[str, ...]
    share: float
    judge: Judge
    declared: bool = False
    climbs: bool = False
    stream: str = ""
    series: Series | None = None

    @property
    def id(self) -> str:
        """``MLM-SEL-2/bernoulli_selects_below_the_threshold``."""
        return f"{self.requirement}/{self.name}"

    def drawn(self, profile: Profile) -> int:
        """How many cases it draws."""
        if self.strategy is None or (self.port in OPENS and profile.sessions == 1):
            return 0
        return max(1, round(profile.examples * self.share))

    def listed(self, profile: Profile) -> list[Recipe]:
        """The recipes that run whatever is drawn: the same ones always, then one size by one."""
        sizes = range(profile.sizes) if self.series is not None else ()
        always = self.always[: profile.sessions] if self.port in OPENS else self.always
        return [*always, *(r for n in sizes if self.series for r in self.series(n))]

    def cases(self, profile: Profile) -> int:
        """How many cases it runs, the same ones always included."""
        return len(self.listed(profile)) + self.drawn(profile)


CHECKS: list[Check] = []


def check(
    requirement: str,
    *,
    port: str,
    recipes: Recipes,
    needs: Sequence[str] = (),
    theorem: bool = False,
    result_field: str | None = None,
    reductions: Sequence[str] = (),
    declared: bool = False,
    climbs: bool = False,
    share: float = 1.0,
    stream: str = "",
    series: Series | None = None,
) -> Callable[[Judge], Judge]:
    """Register a check.  ``recipes`` is a strategy and the recipes that are always in."""

    def register(judge: Judge) -> Judge:
        strategy, always = recipes
        CHECKS.append(
            Check(
                requirement,
                judge.__name__,
                port,
                theorem,
                strategy,
                tuple(always),
                tuple(needs),
                result_field,
                tuple(reductions),
                share,
                judge,
                declared,
                climbs,
                stream or f"{requirement}/{judge.__name__}",
                series,
            )
        )
        return judge

    return register


def table(recipes: Sequence[Recipe]) -> Recipes:
    """A fixed table of cases: nothing is drawn."""
    return None, tuple(recipes)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A recipe that is its case."""

    case: Case

    def build(self, run_seed: int) -> Case:
        """The case itself."""
        return self.case

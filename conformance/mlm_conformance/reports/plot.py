"""The picture of a report: the worst error over its bound, requirement by requirement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from mlm_conformance.outcomes import Outcome
from mlm_conformance.reports.picture import BAD, FAINT, GOOD, INK, bare, drawn
from mlm_conformance.results import RequirementResult, RunReport

__all__ = ["Point", "limits", "place", "points", "worst_svg"]

_DECADES_BEYOND = 0.7  # room at each end for what a logarithmic axis cannot show


@dataclass(frozen=True, slots=True)
class Point:
    """One requirement in the picture.  ``failed`` is the outcome, not read off the ratio."""

    id: str
    ratio: float
    failed: bool


def points(report: RunReport) -> list[Point]:
    """The requirements for which an error was compared with a bound, in the report's order."""
    return [_point(r) for r in report.requirements if r.worst is not None]


def worst_svg(found: Sequence[Point]) -> str | None:
    """The picture as an ``<svg>`` element, or None where nothing was bounded.

    A ratio of 0 (no error at all) stands at the left edge and one beyond every number (inf,
    NaN) at the right edge, as triangles: a logarithmic axis has no place for them.
    """
    if not found:
        return None
    height = 0.85 + 0.19 * len(found)
    return drawn((6.4, height), lambda axes: _draw(axes[0], found), "plot-caption")


def _point(requirement: RequirementResult) -> Point:
    assert requirement.worst is not None
    return Point(requirement.id, requirement.worst.ratio, requirement.outcome is Outcome.FAIL)


def _draw(axes: Axes, found: Sequence[Point]) -> None:
    low, high = limits([point.ratio for point in found])
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(len(found) - 0.3, -0.7)
    axes.axvline(1.0, color=INK, linewidth=1.2)
    for row, point in enumerate(found):
        axes.axhline(row, color=FAINT, linewidth=0.5, zorder=0)
        color = BAD if point.failed else GOOD
        at, marker = place(point.ratio, low, high)
        face = color if marker == "o" or point.failed else "none"
        axes.plot([at], [row], marker, color=color, markerfacecolor=face, clip_on=False)
    axes.set_yticks(range(len(found)), [point.id.removeprefix("MLM-") for point in found])
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_xlabel("worst error ÷ its bound (log scale; at most 1 conforms)")
    bare(axes, ("top", "left", "right"))


def limits(ratios: Sequence[float]) -> tuple[float, float]:
    """Whole decades around the data, with 1 always inside, and some room at both ends."""
    # Beyond 1e-12 and 1e12 an axis of decades says nothing more than "far".
    logs = [min(12.0, max(-12.0, math.log10(r))) for r in ratios if 0 < r < math.inf]
    low = math.floor(min([*logs, -1.0])) - _DECADES_BEYOND
    high = math.ceil(max([*logs, 1.0])) + _DECADES_BEYOND
    return 10.0**low, 10.0**high


def place(ratio: float, low: float, high: float) -> tuple[float, str]:
    """Where a ratio stands on the axis, and the mark that it gets."""
    if ratio <= low:
        return low, "<"
    if math.isnan(ratio) or ratio >= high:
        return high, ">"
    return ratio, "o"

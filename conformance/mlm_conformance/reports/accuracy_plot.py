"""Units in the last place against p, and against V, for each dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from mlm_conformance.accuracy import AccuracyBin
from mlm_conformance.reports.picture import FAINT, INK, SERIES, bare, drawn

__all__ = ["ulps_svg"]

_DTYPES = ("float64", "float32", "bfloat16", "float16")
_LEAST, _MOST = 1e-2, 1e9
_GOOD_ULPS = 4.0


def ulps_svg(bins: Sequence[AccuracyBin], caption: str) -> str | None:
    """The picture as an ``<svg>`` element, or None where nothing was measured.

    Errors below 0.01 stand at the lower edge, and those above 10⁹ (an infinite one too) at the
    upper edge.
    """
    if not bins:
        return None
    return drawn((6.4, 2.9), lambda axes: _draw(axes, bins), caption, columns=2)


def _draw(axes: Sequence[Axes], bins: Sequence[AccuracyBin]) -> None:
    by_p, by_size = axes
    _curves(by_p, bins, lambda b: 10.0 ** (b.decade + 0.5))
    _curves(by_size, bins, lambda b: float(b.vocab_size))
    by_p.set_xlabel("−log p, nats (left: p near 1)")
    by_size.set_xlabel("vocabulary size V")
    by_p.set_ylabel("largest error, ulp")
    curves = by_p.get_legend_handles_labels()
    figure = by_p.get_figure(root=True)
    assert figure is not None
    figure.legend(*curves, fontsize=8, loc="outside upper center", ncols=len(_DTYPES))


def _curves(axes: Axes, bins: Sequence[AccuracyBin], place: Callable[[AccuracyBin], float]) -> None:
    """One curve a dtype: the largest error at each place."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(_GOOD_ULPS, color=INK, linewidth=0.8)
    axes.grid(color=FAINT, linewidth=0.4)
    top = 10.0
    for dtype, (color, marker) in zip(_DTYPES, SERIES, strict=True):
        worst: dict[float, float] = {}
        for found in bins:
            if found.dtype == dtype:
                at = place(found)
                worst[at] = max(worst.get(at, 0.0), found.ulps)
        places = sorted(worst)
        shown = [min(max(worst[at], _LEAST), _MOST) for at in places]
        (line,) = axes.plot(places, shown, marker, color=color, label=dtype)
        line.set(linestyle="-", linewidth=0.8, markersize=3.5)
        top = max([top, *shown])
    axes.set_ylim(_LEAST * 0.7, 10.0 ** math.ceil(math.log10(top)) * 1.4)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    bare(axes, ("top", "right"))

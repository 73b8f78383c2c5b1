"""Pictures for the page: an ``<svg>`` element in the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BAD", "FAINT", "GOOD", "INK", "SERIES", "bare", "drawn"]

INK, FAINT, GOOD, BAD = "#010101", "#020202", "#030303", "#040404"
#: For curves side by side: a colour, and a mark for those who see no colours.
SERIES = (("#050505", "o"), ("#060606", "s"), ("#070707", "^"), ("#080808", "D"))
#: The page owns the colours, so that light and dark follow the reader's setting.
_VARIABLES = {
    INK: "--ink",
    FAINT: "--line",
    GOOD: "--pass",
    BAD: "--fail",
    "#050505": "--pass",
    "#060606": "--waived",
    "#070707": "--error",
    "#080808": "--quiet",
}
# Any: matplotlib types its keys as one closed list, which differs from version to version.
_STYLE: Any = {
    "svg.hashsalt": "mlm-spec",  # ids inside the picture, the same in every run
    "svg.fonttype": "none",  # text stays text: it can be read aloud, found and copied
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def drawn(
    size: tuple[float, float], draw: Callable[[list[Axes]], object], caption: str, columns: int = 1
) -> str:
    """What ``draw`` makes of the axes, as an ``<svg>`` element.

    Parameters
    ----------
    size : width and height in inches.
    draw : gets ``columns`` axes side by side.
    caption : the id of the element that describes the picture.
    """
    # Outside a notebook a Figure without pyplot needs no display and no global state.
    with matplotlib.rc_context():
        # The reader's own matplotlibrc must not change the page.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(list(figure.subplots(1, columns, squeeze=False)[0]))
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(text.getvalue(), caption)


def bare(axes: Axes, sides: tuple[str, ...]) -> None:
    """Without a frame on these sides."""
    for side in sides:
        axes.spines[side].set_visible(False)


def _inline(svg: str, caption: str) -> str:
    """The ``<svg>`` element alone, in the page's colours, as wide as its container."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Two pictures of one page must not share an id.
    svg = re.sub(r'(id="|"#|url\(#)(?=[A-Za-z])', rf"\g<1>{caption}-", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    for color, variable in _VARIABLES.items():
        rest = rest.replace(color, f"var({variable})")
    label = f'role="img" aria-labelledby="{caption}"'
    return f"{head} {label}>{rest}"

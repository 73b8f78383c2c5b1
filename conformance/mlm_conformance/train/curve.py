"""The loss curve as a picture: training, held-out text, and the unigram entropy as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw_curve", "smoothed"]

_SHOWN = 1000  # points of the training loss, at most
_TRAINING, _HELD_OUT, _UNIGRAM = "#a8b8cc", "#1f6f5c", "#b3412f"


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Means of neighbours, ``width`` at a time; the last ones may be fewer.

    >>> smoothed([1.0, 3.0, 5.0], 2)
    [2.0, 5.0]
    """
    return [float(np.mean(values[at : at + width])) for at in range(0, len(values), width)]


def draw_curve(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Draw the lines of ``metrics.jsonl`` into a PNG."""
    updates = [entry for entry in entries if entry["kind"] == "update"]
    evaluations = [entry for entry in entries if entry["kind"] == "evaluation"]
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    width = max(1, -(-len(updates) // _SHOWN), len(updates) // 100)
    axes.plot(
        smoothed([entry["update"] for entry in updates], width),
        smoothed([float(entry["loss"]) for entry in updates], width),
        color=_TRAINING,
        linewidth=1.5,
        label=f"training, means of {width}" if width > 1 else "training",
    )
    if evaluations:
        places = [entry["update"] for entry in evaluations]
        nats = [float(entry["nats"]) for entry in evaluations]
        axes.plot(places, nats, "o-", color=_HELD_OUT, markersize=4, label="held-out text")
        unigram = evaluations[-1]["unigram"]
        axes.axhline(unigram, color=_UNIGRAM, linestyle="--", linewidth=1, label="unigram entropy")
    axes.set_xlabel("update")
    axes.set_ylabel("nats per selected token")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    copy = path.with_name(f".{path.name}.tmp")
    figure.savefig(copy, format="png")
    copy.replace(path)

"""What the nearest float64 of a log-likelihood costs: ``python -m benchmarks.exact``.

``float(enclose(row, target))`` beside an ordinary NumPy log-softmax of the same row, in turns.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import RESULTS, machine, milliseconds, spread, table, write
from mlm_spec import enclose
from mlm_spec.exact.rounding import nearest

__all__ = ["log_softmax", "main", "measure"]

# At most so many times the ordinary one, per position.
_GOALS = {30_522: 12}
# Rounds of each case, by the size of the vocabulary: some seconds each.
_ROUNDS = {1_000: 300, 30_522: 100, 262_144: 20}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, nargs="+", default=list(_ROUNDS))
    parser.add_argument("--spreads", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--rounds", type=int, help="of each case; the default depends on V")
    parser.add_argument("--inner", type=int, default=5, help="positions in one timing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    options = settings()
    given = {k: v for k, v in vars(options).items() if k != "results"}
    record: dict[str, Any] = {"machine": machine(), "settings": given}
    keep_freed_memory()
    cases = itertools.product(options.vocab, options.spreads, options.dtypes)
    record["results"] = [
        measure(*case, options.rounds or _ROUNDS.get(case[0], 50), options.inner) for case in cases
    ]
    write(options.results, "exact", report(record["results"]), record)


def keep_freed_memory() -> None:
    """Let glibc keep what is freed.

    It does so for sizes up to the largest that was freed, 32 MiB at most.  Until then arrays above
    128 KiB are new pages at each call, and these cost the ordinary log-softmax most of its time.
    """
    np.empty(31 * 2**20, np.uint8).fill(0)


def log_softmax(row: NDArray[Any], target: int) -> float:
    """The target's, as one writes it in NumPy, in the dtype of the row."""
    m = row.max()
    return float(row[target] - (m + np.log(np.sum(np.exp(row - m)))))


def in_float64(row: NDArray[Any], target: int) -> float:
    return log_softmax(row.astype(np.float64), target)


def exactly(row: NDArray[Any], target: int) -> float:
    return float(enclose(row, target))


def measure(vocab: int, deviation: float, dtype: str, rounds: int, inner: int) -> dict[str, Any]:
    """The seconds a position of one case, its memory, and what the first attempt left."""
    rng = np.random.default_rng([vocab, int(10 * deviation)])
    calls: dict[str, Callable[[NDArray[Any], int], float]] = {"exact": exactly}
    calls |= {"ordinary": log_softmax if dtype == "float64" else in_float64}
    calls |= {} if dtype == "float64" else {"narrow": log_softmax}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    undecided = 0
    for i in range(-2, rounds):  # the first two are not counted
        rows = rng.normal(0, deviation, (inner, vocab)).astype(dtype)
        targets = rng.integers(vocab, size=inner).tolist()
        for name in sorted(calls, reverse=bool(i % 2)):
            begin = time.perf_counter()
            for row, target in zip(rows, targets, strict=True):
                calls[name](row, target)
            seconds[name] += [(time.perf_counter() - begin) / inner] if i >= 0 else []
        firsts = [enclose(row, target) for row, target in zip(rows, targets, strict=True)]
        undecided += sum(nearest(f.lower, f.upper) is None for f in firsts) if i >= 0 else 0
    return {
        "vocab": vocab,
        "deviation": deviation,
        "dtype": dtype,
        "positions": rounds * inner,
        "undecided": undecided,
        "peak_arrays": {name: peak(call, rows[0]) for name, call in calls.items()},
        "seconds": seconds,
    }


def peak(call: Callable[[NDArray[Any], int], float], row: NDArray[Any]) -> float:
    """Memory of one call beyond what was there, in float64 arrays of the vocabulary's size."""
    tracemalloc.start()
    try:
        call(row, 0)
        return tracemalloc.get_traced_memory()[1] / (8 * row.size)
    finally:
        tracemalloc.stop()


def report(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for found in results:
        seconds, memory = found["seconds"], found["peak_arrays"]
        times = {name: ratios(seconds, name) for name in ("ordinary", "narrow")}
        name = f"V = {found['vocab']:,}, N(0, {found['deviation']:g}), {found['dtype']}"
        row = [name, spread(milliseconds(seconds["exact"]), 3)]
        row += [spread(milliseconds(seconds["ordinary"]), 3), spread(times["ordinary"], 1)]
        row += [str(_GOALS.get(found["vocab"], ""))]
        row += [f"{statistics.median(times['narrow']):.1f}" if times["narrow"] else ""]
        row += [f"{memory['exact']:.1f}", f"{memory['ordinary']:.1f}"]
        rows.append([*row, f"{found['undecided']} of {found['positions']:,}"])
    head = ["logits", "exact, ms", "ordinary, ms", "ratio", "goal", "to float32"]
    head += ["peak", "ordinary", "second attempts"]
    notes = [
        "A position, median (smallest..largest) of the rounds: float(enclose(z, t)), and NumPy's",
        "z[t] - (m + log(sum(exp(z - m)))) in float64, in turns in one process; float32 rows are",
        "converted by both.  ratio: exact / ordinary, within each round.  to float32: the median",
        "ratio to the ordinary one in float32, whose result has 24 bits.  peak: memory beyond the",
        "row, in float64 arrays of V.  second attempts: positions that the first enclosure did not",
        "decide.  Freed memory is kept by the allocator, which favours the ordinary one.",
    ]
    return "\n".join([table(head, rows), "", *notes])


def ratios(seconds: Mapping[str, Sequence[float]], name: str) -> list[float]:
    """exact / name, position by position."""
    others = seconds.get(name, [])
    return [a / b for a, b in zip(seconds["exact"], others, strict=False)]


if __name__ == "__main__":
    main()

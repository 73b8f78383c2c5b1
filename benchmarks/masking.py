"""How many tokens a second are masked: ``python -m benchmarks.masking``.

The tokens come as an array and leave as arrays; padding a list of lists into a batch, most of a
collator's time, is left out for all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.maskers import OURS, VARIANTS
from benchmarks.measure import (
    RESULTS,
    machine,
    megabytes,
    milliseconds,
    nothing_ran,
    ratio,
    run_workers,
    spread,
    table,
    write,
)

__all__ = ["main"]

_PEER = "HF torch_mask_tokens"
# Millions of tokens a second on one thread of a CPU that each is meant to reach.
_GOALS = {"mlm_spec (numpy)": 20, "mlm_torch.mask": 30, "mlm_jax.mask": 60}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--inner", type=int, default=5, help="calls in one timing")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    options = settings()
    given = {k: v for k, v in vars(options).items() if k not in {"results", "only"}}
    record: dict[str, Any] = {"machine": machine(options.device), "settings": given}
    results = run_workers("benchmarks.maskers", options.only, given)
    require_equal_masks(results)
    record["results"] = results
    write(options.results, "masking", report(given, results), record)
    return 3 if nothing_ran(results) else 0


def require_equal_masks(results: Mapping[str, Any]) -> None:
    """Ours are one function: a speed with another mask would be the speed of something else."""
    marks = {
        name: (found["selected"], found["checksum"])
        for name, found in results.items()
        if name in OURS and "seconds" in found
    }
    if len(set(marks.values())) > 1:
        raise RuntimeError(f"the masks differ: {marks}")


def report(given: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    tokens = given["rows"] * given["columns"]
    on_one_thread = given["device"] == "cpu" and given["threads"] == 1
    rows = []
    for name, found in results.items():
        if "not_run" in found:
            rows.append([name, f"not run: {found['not_run']}", *[""] * 5])
            continue
        rate = statistics.median(tokens / s / 1e6 for s in found["seconds"])
        goal = str(_GOALS[name]) if on_one_thread and name in _GOALS else ""
        times = spread(ratio(results, _PEER, name)) if _PEER in results else ""
        row = [name, spread(milliseconds(found["seconds"])), f"{rate:,.1f}", goal, times]
        rows.append([*row, megabytes(found["peak_bytes"]), f"{found['selected']:,}"])
    head = ["masker", "ms a call", "Mtokens/s", "goal", "x HF torch", "peak MB", "selected"]
    title = (
        f"Masking {given['rows']} x {given['columns']} ids of {given['vocab']}, {given['device']}, "
        f"{given['threads']} thread(s), {given['rounds']} rounds of {given['inner']} calls in turns"
    )
    notes = [
        "Median (smallest..largest) of the rounds.  x HF torch: the time of HF's torch_mask_tokens",
        "divided by this one's, within each round; above 1 is faster.  Peak: memory of one call",
        "beyond what was there.  Ours gave equal masks, bit for bit; the peers draw from a",
        "stateful generator.",
    ]
    missing = [name for name in VARIANTS if name not in results]
    if missing:
        notes.append("Left out by --only: " + ", ".join(missing) + ".")
    return "\n".join([title, "", table(head, rows), "", *notes])


if __name__ == "__main__":
    sys.exit(main())

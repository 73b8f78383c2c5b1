"""How many tokens a second are masked: ``python -m benchmarks.masking``.

The tokens come as an array and leave as arrays; padding a list of lists into a batch, most of a
collator's time, is left out for all.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.maskers import OURS, PEERS, VARIANTS
from benchmarks.measure import RESULTS, machine, measure, milliseconds, ratio, spread, table, write
from benchmarks.worker import Worker, start

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


def main() -> None:
    options = settings()
    given = {k: v for k, v in vars(options).items() if k not in {"results", "only"}}
    record: dict[str, Any] = {"machine": machine(), "settings": given}
    workers = {name: start("benchmarks.maskers", name, given) for name in options.only}
    results = measure(workers, options.rounds, options.inner)
    for worker in workers.values():
        if isinstance(worker, Worker):
            worker.close()
    require_equal_masks(results)
    record["results"] = results
    write(options.results, "masking", report(given, results), record)


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
    on_cpu = given["device"] == "cpu"
    rows = []
    for name, found in results.items():
        if "not_run" in found:
            rows.append([name, f"not run: {found['not_run']}", "", "", "", ""])
            continue
        rate = [tokens / s / 1e6 for s in found["seconds"]]
        times = ratio(results, _PEER, name) if _PEER in results else None
        goal = f"{_GOALS[name]}" if on_cpu and given["threads"] == 1 and name in _GOALS else ""
        row = [name, spread(milliseconds(found["seconds"])), f"{statistics.median(rate):,.1f}"]
        rows.append([*row, goal, spread(times), f"{found['selected']:,}"])
    head = ["masker", "ms a call", "Mtokens/s", "goal", f"{_PEER} ÷ this", "selected"]
    title = (
        f"Masking {given['rows']} x {given['columns']} ids of {given['vocab']}, {given['device']}, "
        f"{given['threads']} thread(s), {given['rounds']} rounds of {given['inner']} calls in turns."
    )
    ours = any(name in OURS and "seconds" in found for name, found in results.items())
    same = "The masks of the first five are equal, bit for bit.  " if ours else ""
    notes = (
        "Median (smallest..largest) of the rounds; the ratio is taken within each round, so above\n"
        f"1 is faster than the peer.  {same}The peers draw from a\nstateful generator."
    )
    missing = [peer for peer in PEERS if peer not in results]
    if missing:
        notes += "\nLeft out by --only: " + ", ".join(missing) + "."
    return f"{title}\n\n{table(head, rows)}\n\n{notes}\n"


if __name__ == "__main__":
    main()

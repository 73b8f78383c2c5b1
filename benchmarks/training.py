"""Time and memory of one training step: ``python -m benchmarks.training``.

A small BERT, beside Hugging Face's `BertForMaskedLM` with its collator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    RESULTS,
    cpus,
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
from benchmarks.trainers import VARIANTS

__all__ = ["main"]

_PEER = "transformers, BertForMaskedLM"
# Compiling takes minutes on a CPU, so that variant is measured where it is asked for.
_USUAL = ("mlm_torch session", _PEER)


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--inner", type=int, default=1, help="steps in one timing")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(_USUAL))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    options = settings()
    given = {k: v for k, v in vars(options).items() if k not in {"results", "only"}}
    record: dict[str, Any] = {"machine": machine(options.device), "settings": given}
    results = run_workers("benchmarks.trainers", options.only, given)
    record["results"] = results
    write(options.results, "training", report(given, results), record)
    return 3 if nothing_ran(results) else 0


def report(given: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    tokens, rows = given["rows"] * given["columns"], []
    for name, found in results.items():
        if "not_run" in found:
            rows.append([name, f"not run: {found['not_run']}", *[""] * 5])
            continue
        rate = [tokens / s for s in found["seconds"]]
        compared = name != _PEER and "seconds" in results.get(_PEER, {})
        times = spread(ratio(results, _PEER, name)) if compared else ""
        memory, other = found["peak_bytes"], results.get(_PEER, {}).get("peak_bytes")
        less = f"{other / memory:,.1f}" if compared and other and memory else ""
        row = [name, spread(milliseconds(found["seconds"]), 0), spread(rate, 0), times]
        rows.append([*row, megabytes(memory), less, f"{found['loss']:.3f}"])
    head = ["one update", "ms", "tokens/s", "x peer", "peak MB", "less memory", "first loss"]
    title = (
        f"Training: {given['layers']} layers, d = {given['width']}, {given['heads']} heads, "
        f"V = {given['vocab']}, {given['rows']} x {given['columns']} ids, 15 % selected, "
        f"{given['dtype']}, {given['device']}, {given['threads']} thread(s), "
        f"{given['rounds']} rounds in turns"
    )
    notes = [
        "Median (smallest..largest) of the rounds.  An update: masking, forward with dropout 0.1",
        "(none on attention probabilities), backward, clipping, AdamW.  x peer: the time of",
        f"{_PEER} divided by this one's, within each round; above 1 is faster.",
        "Peak: memory of one update beyond parameters and moments; less memory: the peer's divided",
        "by this one's.",
    ]
    return "\n".join([title, "", table(head, rows), "", *notes])


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of the output layer with the objective: ``python -m benchmarks.head``.

Forward and backward, at the selected positions alone and, as most code has it, everywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.heads import VARIANTS
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

__all__ = ["main"]

# Whom each is compared with: what is mostly written in the same framework.
_PEERS = {
    "mlm_torch.head_log_likelihood_sum": "torch, logits everywhere",
    "mlm_torch.head (checked)": "torch, logits everywhere",
    "torch, gathered by hand": "torch, logits everywhere",
    "torch, linear_cross_entropy gathered": "torch, logits everywhere",
    "mlm_jax.head_log_likelihood_sum": "optax, logits everywhere",
}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--selected", type=int, default=307)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--inner", type=int, default=1, help="calls in one timing")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    options = settings()
    given = {k: v for k, v in vars(options).items() if k not in {"results", "only"}}
    record: dict[str, Any] = {"machine": machine(options.device), "settings": given}
    results = run_workers("benchmarks.heads", options.only, given)
    record["results"] = results
    write(options.results, "head", report(given, results), record)
    return 3 if nothing_ran(results) else 0


def report(given: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    rows = []
    for name, found in results.items():
        if "not_run" in found:
            rows.append([name, f"not run: {found['not_run']}", *[""] * 4])
            continue
        peer = _PEERS.get(name)
        times = spread(ratio(results, peer, name)) if peer in results else ""
        memory = found["peak_bytes"]
        other = results.get(peer, {}).get("peak_bytes") if peer else None
        less = f"{other / memory:,.1f}" if other and memory else ""
        row = [name, spread(milliseconds(found["seconds"]), 1), times, megabytes(memory), less]
        rows.append([*row, f"{found['sum']:.4f}"])
    head = ["forward and backward", "ms", "x peer", "peak MB", "less memory", "sum, nats"]
    title = (
        f"Head: {given['selected']} of {given['positions']} positions selected, "
        f"d = {given['width']}, V = {given['vocab']}, {given['dtype']}, {given['device']}, "
        f"{given['threads']} thread(s), {given['rounds']} rounds in turns"
    )
    notes = [
        "Median (smallest..largest) of the rounds.  x peer: the time with logits everywhere, in",
        "the same framework, divided by this one's, within each round; above 1 is faster.  Peak:",
        "memory of one call beyond what was there (JAX on a GPU: as its compiler planned); less",
        "memory: the peer's divided by this one's.",
    ]
    return "\n".join([title, "", table(head, rows), "", *notes])


if __name__ == "__main__":
    sys.exit(main())

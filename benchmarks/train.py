"""``mlm-spec train`` as a stranger meets it: ``python -m benchmarks.train``.

A small model on the prose of this Python installation, with all settings as they are by default;
its curve, beside the unigram entropy, and how long it took.  Exit status 1 if the model is not
below that entropy at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine, table, write

__all__ = ["main", "record", "report"]

_MEAN = 10  # updates whose losses are one number of the record


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--updates", type=int, help="default: the command's own")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    options = settings()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["train", "--backend", options.backend, "--device", options.device]
        more = ["--updates", str(options.updates)] if options.updates else []
        started = time.perf_counter()
        program = [sys.executable, "-m", "mlm_conformance", *command, "--out", str(run), *more]
        subprocess.run(program, check=True)
        seconds = time.perf_counter() - started
        found = record(run, options.backend, seconds)
        stem = f"train-{options.backend}"
        device = "cpu" if options.device == "cpu" else "cuda"
        write(options.results, stem, report(found), {"machine": machine(device), **found})
        shutil.copyfile(run / "curve.png", options.results / f"{stem}.png")
    last = found["evaluations"][-1]
    if last["nats"] >= last["unigram"]:
        sys.exit(f"{last['nats']} nats; expected less than the unigram entropy, {last['unigram']}")


def record(run: Path, backend: str, seconds: float) -> dict[str, Any]:
    """What is kept of a run: its settings, its evaluations, and its losses, ten at a time."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    updates = [entry for entry in entries if entry["kind"] == "update"]
    losses = [entry["loss"] for entry in updates]
    return {
        "backend": backend,
        "settings": json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"],
        "seconds": round(seconds, 1),
        "tokens_per_second": round(_rate(updates)),
        "evaluations": [
            {name: entry[name] for name in ("update", "nats", "unigram", "count")}
            for entry in entries
            if entry["kind"] == "evaluation"
        ],
        "losses": [
            round(sum(part) / len(part), 4)
            for part in (losses[at : at + _MEAN] for at in range(0, len(losses), _MEAN))
        ],
    }


def _rate(updates: Sequence[Mapping[str, Any]]) -> float:
    return sum(entry["tokens"] for entry in updates) / sum(entry["seconds"] for entry in updates)


def report(found: Mapping[str, Any]) -> str:
    """The evaluations as a table."""
    told = found["settings"]
    title = (
        f"mlm-spec train --backend {found['backend']}: {told['updates']} updates of "
        f"{told['batch']} sequences of {told['length']} tokens, preset {told['preset']}.\n"
        f"{found['seconds'] / 60:.1f} minutes with reading, evaluating and saving; "
        f"{found['tokens_per_second']:,} tokens a second within updates.\n"
        "Nats per selected token of held-out text, with masks that stay the same.\n\n"
    )
    rows = [
        [
            str(entry["update"]),
            f"{entry['nats']:.4f}",
            f"{entry['unigram']:.4f}",
            f"{entry['unigram'] - entry['nats']:+.4f}",
        ]
        for entry in found["evaluations"]
    ]
    return title + table(["update", "model", "unigram entropy", "below it"], rows)


if __name__ == "__main__":
    main()

"""What ``mlm-spec identify`` says of real maskers: ``python -m benchmarks.identify``.

It writes ``identify.json`` and the page ``docs/dialects.md``.  With ``--seeds N`` the simulated
dialects are identified too, once with each of so many seeds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

from mlm_conformance.dialects import page, simulated
from mlm_conformance.dialects.command import examine, to_json
from mlm_conformance.dialects.decide import identify
from mlm_conformance.dialects.dialect import Dialect
from mlm_conformance.dialects.probes import observe
from mlm_conformance.field.dialects import DIALECTS
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.reports.files import write_atomically

from benchmarks.measure import RESULTS

__all__ = ["FORMAT", "REAL", "main", "real", "simulation", "simulations"]

FORMAT = "mlm-spec-identify-record/1"
_ROOT = Path(__file__).resolve().parent.parent

#: Real maskers, and the dialect that each should be.
REAL = {
    "mlm_conformance.field.hf_collators:torch_path": "hf-collator",
    "mlm_conformance.field.hf_collators:numpy_path": "hf-collator",
    "mlm_conformance.field.hf_collators:whole_word_torch_path": "hf-collator-words",
    "mlm_conformance.field.keras_hub_masks:python_path": "keras-hub-python",
    "mlm_conformance.field.keras_hub_masks:tensorflow_path": "keras-hub-tf",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="of the simulated; default: 8")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "dialects.md")
    options = parser.parse_args()
    record = {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "command": f"python -m benchmarks.identify --seeds {options.seeds}",
        "python": platform.python_version(),
        "real": [real(target, name) for target, name in REAL.items()],
        "simulated": simulations(options.seeds),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(options.results / "identify.json", text)
    write_atomically(options.page, page.markdown(DIALECTS, record))


def real(target: str, name: str) -> dict[str, Any]:
    """One real masker, in a process of its own."""
    hello, found = examine(target, time_limit=300.0)
    print(f"{target}: {', '.join(found.fitting) or 'none'}", flush=True)
    return {**to_json(found, target, 0, hello), "expected": name}


def simulations(seeds: int) -> dict[str, Any]:
    """All simulated dialects, with so many seeds each."""
    runs = [simulation(dialect, seed) for seed in range(seeds) for dialect in DIALECTS]
    wrong = sum(run["fitting"] != run["expected"] for run in runs)
    return {"seeds": seeds, "number": len(runs), "wrong": wrong, "runs": runs}


def simulation(dialect: Dialect, seed: int) -> dict[str, Any]:
    """The simulated dialect, with one seed."""
    target = InProcessTarget(getattr(simulated, dialect.name.replace("-", "_")))
    seen, _ = observe(target, seed)
    fitting = identify(seen, DIALECTS).fitting
    run = {"dialect": dialect.name, "seed": seed, "fitting": list(fitting)}
    return {**run, "expected": list(simulated.expected(dialect.name))}


if __name__ == "__main__":
    main()

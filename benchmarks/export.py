"""Models that ``mlm-spec train`` exports, read by Hugging Face: ``python -m benchmarks.export``.

Each backend trains a small model in each precision.  ``from_pretrained`` loads its folder and
scores the held-out text with the masks of the evaluation.  A score may differ by what perturbed
runs of the reference say that rounding may do in the dtype of the weights.  Exit status 1 if one
differs by more, if the tokenizer gives other ids, if loading complains of a name, or if a changed
configuration is not found out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mlm_conformance import cli
from mlm_conformance.perturbed import envelope, relative, unit_of
from mlm_conformance.train.held_out import held_out
from mlm_conformance.train.store import open_store
from mlm_conformance.train.windows import cut
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.backends import BACKENDS
from benchmarks.measure import RESULTS, machine, table, write
from mlm_spec.training.checkpoint import read_checkpoint
from mlm_spec.training.gradients import objective
from mlm_spec.training.inputs import training_batch

__all__ = ["PRECISIONS", "WRONG", "agrees", "compare", "main", "report"]

Floats = NDArray[np.float64]

#: The precisions that a run keeps its weights in, and the unit roundoff of each.
PRECISIONS = {"float64": 2.0**-53, "float32": 2.0**-24}

#: A model that is not the one that was trained, by one word of its configuration.
WRONG = "wrong: tanh GELU"

_TEXT = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
_LENGTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {}
    for backend, precision in itertools.product(BACKENDS, PRECISIONS):
        with tempfile.TemporaryDirectory() as folder:
            run = _trained(Path(folder) / "run", backend, precision)
            found[f"{backend} {precision}"] = compare(run, precision)
            if (backend, precision) == (BACKENDS[-1], "float64"):
                _change_activation(run / "model" / "config.json")
                found[WRONG] = compare(run, precision)
    write(options.results, "export", report(found), {"machine": machine(), "results": found})
    beyond = [name for name, row in found.items() if not agrees(row)]
    if beyond != [WRONG]:
        which = ", ".join(beyond) or "nothing, where a wrong model is"
        sys.exit(f"not what was trained: {which}")


def _change_activation(config: Path) -> None:
    """Make another model of it: the comparison has to tell."""
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"hidden_act": "gelu_new"}), encoding="utf-8")


def _trained(run: Path, backend: str, precision: str) -> Path:
    """The folder of a short run on a page of this project."""
    status = cli.main([
        "train", "--backend", backend, "--out", str(run), "--text", str(_TEXT),
        "--vocabulary", "500", "--length", str(_LENGTH), "--updates", "20", "--batch", "8",
        "--precision", precision,
    ])  # fmt: skip
    assert status == 0
    return run


def compare(run: Path, precision: str) -> dict[str, Any]:
    """What the peer makes of a run's model: complaints, ids, and the score of the held-out text."""
    from mlm_conformance.field.hf_export import load_model, model_ids, model_score  # the peer

    checkpoint, store = read_checkpoint(run / "checkpoint.safetensors"), open_store(run / "store")
    config, seed = checkpoint.encoder, checkpoint.training.seed
    loaded = load_model(run / "model")
    tokenizer = Tokenizer.from_file(str(run / "model" / "tokenizer.json"))
    texts = [text for text in _TEXT.read_text(encoding="utf-8").splitlines() if text]
    same = sum(model_ids(loaded, text) == tokenizer.encode(text).ids for text in texts)

    assert checkpoint.policy is not None
    text = held_out(cut(store, _LENGTH), checkpoint.policy, seed, 16, 16)
    (tokens,) = text.batches
    batch = training_batch(tokens, config, checkpoint.policy, seed)

    def score(rounded: Callable[[Floats], Floats]) -> dict[str, Floats]:
        found = objective(checkpoint.state.parameters, batch, config, rounded=rounded)
        return {"sum": np.array([found.sum])}

    ours = score(lambda values: values)["sum"]
    allowed = envelope(score, {"sum": np.abs(ours)}, unit_of(config, batch, PRECISIONS[precision]))
    theirs = np.array([model_score(loaded, batch)])
    return {
        "complaints": {name: sorted(map(str, value)) for name, value in loaded.complaints.items()},
        "texts": len(texts),
        "texts with the same ids": same,
        "dtype": str(next(loaded.model.parameters()).dtype).rpartition(".")[2],
        "sum": float(ours[0]),
        "count": text.count,
        "apart": relative(theirs, ours, np.abs(ours)),
        "allowed": allowed["sum"],
    }


def agrees(row: dict[str, Any]) -> bool:
    """Whether the peer has the same tokenizer, the same weights and the same score."""
    ids = row["texts with the same ids"] == row["texts"]
    return ids and not row["complaints"] and row["apart"] <= row["allowed"]


def report(found: dict[str, dict[str, Any]]) -> str:
    title = (
        "BertForMaskedLM.from_pretrained on the folder that mlm-spec train exports: the score of "
        "held-out text.\napart: relative to the reference's sum, in the dtype of the weights.  "
        "allowed: what perturbed runs\nof the reference say that rounding may do there.\n\n"
    )
    rows = [
        [
            precision,
            row["dtype"],
            f"{row['texts with the same ids']} of {row['texts']}",
            str(len(row["complaints"])),
            f"{row['sum']:.6f}",
            f"{row['apart']:.1e}",
            f"{row['allowed']:.1e}",
        ]
        for precision, row in found.items()
    ]
    head = ["run", "loaded as", "same ids", "complaints", "sum in nats", "apart", "allowed"]
    return title + table(head, rows)


if __name__ == "__main__":
    main()

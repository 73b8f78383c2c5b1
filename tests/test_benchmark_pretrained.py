"""The comparison on pretrained weights, without its peer: batches, names, verdicts, the report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlm_conformance.perturbed import envelope, hidden_unit_of, relative, unit_of
from numpy.typing import NDArray

from benchmarks import backends, pretrained
from benchmarks.encoder import random_batch, random_parameters
from mlm_spec.errors import InputError
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import hidden_states
from mlm_spec.training.gradients import gradient_magnitudes, objective_and_gradients
from mlm_spec.training.parameters import shapes
from mlm_spec.training.places import check_batch

SETTINGS = {
    "vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 16, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "initializer_range": 0.02, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "model_type": "bert",
}  # fmt: skip
CONFIG = pretrained.encoder_of(SETTINGS)
ENCODED = [([1, 7, 2], [0, 0, 0]), ([1, 9, 8, 7, 2], [0, 0, 0, 1, 1]), ([1, 2], [0, 0])]
UNIT = 2.0**-53

Floats = NDArray[np.float64]


def weights() -> dict[str, np.ndarray]:
    """As in the file of a model without a head, and with what nobody uses."""
    own = random_parameters(CONFIG, 0.3)
    found = {n.removeprefix("bert."): v for n, v in own.items() if n.startswith("bert.")}
    pooler = {"pooler.dense.weight": np.ones((8, 8)), "pooler.dense.bias": np.ones(8)}
    return found | pooler | {"embeddings.position_ids": np.arange(16)[None]}


def test_a_checkpoint_without_a_head_gets_the_first_values_of_one() -> None:
    found = pretrained.parameters_of(weights(), CONFIG)
    assert {name: value.shape for name, value in found.items()} == shapes(CONFIG)
    own = random_parameters(CONFIG, 0.3)
    for name, value in found.items():
        assert np.array_equal(value, own[name]) == name.startswith("bert."), name


def test_a_weight_that_is_missing_or_has_another_name_is_refused() -> None:
    given = weights()
    moved = {name.replace("word_embeddings", "words"): value for name, value in given.items()}
    with pytest.raises(InputError, match="word_embeddings"):
        pretrained.parameters_of(moved, CONFIG)
    with pytest.raises(InputError, match="extra"):
        pretrained.parameters_of(given | {"extra.weight": np.ones(3)}, CONFIG)


def test_sentences_lie_in_rows_of_their_own_or_behind_one_another() -> None:
    apart, packed = (
        check_batch(pretrained.batch_of(ENCODED, x), CONFIG) for x in ("apart", "packed")
    )
    assert apart.inputs.tolist() == [[1, 7, 2, 0, 0], [1, 9, 8, 7, 2], [1, 2, 0, 0, 0]]
    assert apart.attention_mask.sum(axis=1).tolist() == [3, 5, 2]
    assert apart.token_type_ids[1].tolist() == [0, 0, 0, 1, 1]
    two = pretrained.batch_of([ENCODED[1], ENCODED[0], ENCODED[2]], "packed")
    assert two.inputs.tolist() == [[1, 9, 8, 7, 2], [1, 7, 2, 1, 2]]
    assert two.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]]
    assert two.sequence_id[..., 0].tolist() == [[0] * 5, [1, 1, 1, 2, 2]]
    assert packed.attention_mask.sum() == apart.attention_mask.sum()


def test_states_are_compared_sentence_by_sentence_whatever_rows_they_lie_in() -> None:
    own = pretrained.parameters_of(weights(), CONFIG)
    found = []
    for layout in pretrained.LAYOUTS:
        batch = pretrained.batch_of(ENCODED, layout)
        found.append(pretrained.real_states(hidden_states(own, batch, CONFIG), batch))
    assert list(found[0]) == ["hidden 0", "hidden 1", "hidden 2"]
    for name in found[0]:
        assert np.array_equal(found[0][name], found[1][name])  # the reference promises as much


def test_the_sentences_have_several_lengths_and_scripts_and_a_pair() -> None:
    lengths = {len(s.split()) for s in pretrained.SENTENCES if isinstance(s, str)}
    assert len(lengths) > 5
    assert any(isinstance(s, tuple) for s in pretrained.SENTENCES)
    assert any(not s.isascii() for s in pretrained.SENTENCES if isinstance(s, str))


def row(who: str, far: float) -> dict:
    return {
        "who": who,
        "precision": "float64",
        "apart": {"hidden 0": UNIT, "hidden 1": far},
        "allowed": {"hidden 0": 4 * UNIT, "hidden 1": 8 * UNIT},
    }


def record(far: float, wrong: float) -> dict:
    rows = [row("numpy", far), *(row(who, wrong) for who in pretrained.WRONG)]
    return {"encoder": CONFIG.to_mapping(), "lengths": [3, 5], "rows": rows}


def test_the_report_names_the_state_that_is_nearest_to_its_bound() -> None:
    text = pretrained.report(record(6 * UNIT, 1.0))
    assert "8 positions of 2 sentences" in text
    (line,) = [line.split() for line in text.splitlines() if line.startswith("numpy")]
    assert line[1:] == ["1.1e-16", "6.7e-16", "8.9e-16", "0.75", "hidden", "1"]


@pytest.mark.parametrize(
    ("far", "wrong", "refused"),
    [
        (UNIT, 1.0, None),
        (9 * UNIT, 1.0, "apart: numpy; not told: none"),
        (UNIT, UNIT, "apart: none; not told: wrong: tanh GELU"),
    ],
    ids=["as it should be", "a backend is apart", "a wrong model passes"],
)
def test_the_command_fails_where_a_backend_is_apart_or_a_wrong_peer_is_not(
    far: float, wrong: float, refused: str | None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "compare", lambda: record(far, wrong))
    monkeypatch.setattr("sys.argv", ["pretrained", "--results", str(tmp_path)])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if refused is None:
        pretrained.main()
    else:
        with pytest.raises(SystemExit, match=refused):
            pretrained.main()
    assert (tmp_path / "pretrained.txt").exists()


# What looks inside the backends.


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(
    "dropout", [None, Dropout(seed=2**35 + 1, update=1)], ids=["still", "drops"]
)
def test_a_backend_that_is_looked_into_has_the_states_of_the_reference(
    backend: str, dropout: Dropout | None
) -> None:
    rate = 0 if dropout is None else "1/3"
    told = CONFIG.to_mapping() | {"hidden_dropout": rate, "attention_dropout": rate}
    config = EncoderConfig.from_mapping(told)
    batch = random_batch(config, 2, 2, 7)
    own = random_parameters(config, 0.1)

    def run(rounded: Callable[[Floats], Floats]) -> dict[str, Floats]:
        states = hidden_states(own, batch, config, dropout=dropout, rounded=rounded)
        return pretrained.real_states(states, batch)

    expected = run(lambda values: values)
    scales = {name: np.full(x.shape, np.abs(x).max()) for name, x in expected.items()}
    for precision, roundoff in pretrained.ROUNDOFF.items():
        states = backends.hidden_of(backend, own, batch, config, precision, dropout)
        found = pretrained.real_states(states, batch)
        assert list(found) == list(expected)
        allowed = envelope(run, scales, hidden_unit_of(config, batch, roundoff))
        for name, limit in allowed.items():
            assert relative(found[name], expected[name], scales[name]) <= limit, name


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("drops", [False, True], ids=["still", "drops"])
def test_the_gradients_of_a_session_come_back_as_those_of_the_sum(
    backend: str, drops: bool
) -> None:
    rate = "1/3" if drops else 0
    told = CONFIG.to_mapping() | {"hidden_dropout": rate, "attention_dropout": rate}
    config = EncoderConfig.from_mapping(told)
    dropout = Dropout(seed=2**35 + 1, update=1) if drops else None
    batch, own = random_batch(config, 2, 2, 7), random_parameters(config, 0.1)

    def run(rounded: Callable[[Floats], Floats]) -> dict[str, Floats]:
        found = objective_and_gradients(own, batch, config, dropout=dropout, rounded=rounded)
        return {"sum": np.array([found.sum]), **found.gradients}

    expected = run(lambda values: values)
    scales = gradient_magnitudes(own, batch, config, dropout=dropout)
    scales["sum"] = np.abs(expected["sum"])
    allowed = envelope(run, scales, unit_of(config, batch))
    total, gradients = backends.session_run(backend, own, batch, config, dropout)
    found = {"sum": np.array([total]), **gradients}
    assert found.keys() == expected.keys()
    for name, limit in allowed.items():
        assert relative(found[name], expected[name], scales[name]) <= limit, name

"""The PyTorch encoder: values and gradients within their balls, and dropout word by word."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_conformance.training import Objective, evaluated, objective
from mlm_torch import dropout
from mlm_torch.encoder import MaskedLanguageModel, layout_of
from mlm_torch.port import as_tensor
from torch_cases import Watch
from torch_training_cases import (
    ENCODER,
    TRAINING,
    batch_of,
    parameters_of,
    session_of,
    split_rows,
    unpacked,
)

import mlm_spec
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

NO_DROPOUT = ENCODER | {"hidden_dropout": 0, "attention_dropout": 0}


def tensors_of(batch: dict[str, np.ndarray]) -> TrainingBatch:
    return TrainingBatch(**{name: as_tensor(name, x) for name, x in batch.items()})


def outside(found: dict[str, Any], truth: Objective) -> list[str]:
    """What lies outside its ball: the sum, the count, or a gradient by name."""
    balls = {"sum": truth.sum, **truth.gradients}
    seen = {"sum": found["sum"], **found["gradients"]}
    assert sorted(seen) == sorted(balls)
    wrong = [n for n, b in balls.items() if (np.abs(seen[n] - b.value) > b.radius).any()]
    return [*wrong, *(["count"] if found["count"] != truth.count else [])]


def run_of(seed: int, update: int) -> torch.Tensor:
    return dropout.run_key(mlm_torch.make_key(seed, 0)[:2], torch.tensor(update))


def kept(
    update: int,
    site: int,
    layer: int,
    batch: dict[str, np.ndarray],
    row: int,
    column: int,
    channels: Any,
    p: Any,
) -> np.ndarray:
    """Which channels of a position are kept, from the reference's Threefry."""
    seed, tag = TRAINING["seed"], 0x4D4C4D00 ^ 3
    run = [seed % 2**32, seed >> 32, update, 0]
    key = mlm_spec.threefry4x32(run, [site, tag, layer, 0]).tolist()
    low, high = (int(word) for word in batch["sequence_id"][row, column])
    place = int(batch["position"][row, column])
    drawn = [mlm_spec.threefry4x32(key, [place, c // 4, low, high])[c % 4] for c in channels]
    limit = -(-((1 - Fraction(p)) * 2**32) // 1)
    return np.array([int(word) < limit for word in drawn])


@pytest.mark.parametrize(
    "given",
    [
        ENCODER,
        ENCODER | {"attention_dropout": 0},
        NO_DROPOUT,
        NO_DROPOUT | {"num_hidden_layers": 0},
        ENCODER | {"hidden_size": 15, "num_attention_heads": 5},
    ],
    ids=["dropout", "fused", "none dropped", "no layer", "a width not a multiple of four"],
)
def test_sum_count_and_every_gradient_are_within_their_balls(given: dict[str, Any]) -> None:
    parameters, batches = parameters_of(given), [batch_of(1), batch_of(2, rows=2)]
    session, config = session_of(given, parameters), EncoderConfig.from_mapping(given)
    plain, want = session.evaluate(batches), evaluated(config, parameters, batches)
    assert abs(plain["sum"] - want.sum.value) <= want.sum.radius
    assert plain["count"] == want.count
    truth = objective(config, parameters, batches, TRAINING["seed"], 1)
    assert outside(session.gradients(batches), truth) == []


def test_the_balls_notice_a_layer_norm_with_another_epsilon() -> None:
    parameters, batches = parameters_of(NO_DROPOUT), [batch_of(1)]
    other = NO_DROPOUT | {"layer_norm_eps": 1e-5}
    got, config = session_of(other, parameters).gradients(batches), NO_DROPOUT
    truth = objective(EncoderConfig.from_mapping(config), parameters, batches, TRAINING["seed"], 1)
    assert len(outside(got, truth)) > 20


@pytest.mark.parametrize("cut", [split_rows, unpacked])
def test_micro_batches_and_packing_change_nothing(cut: Any) -> None:
    parameters, batch = parameters_of(), batch_of(5)
    session, config = session_of(ENCODER, parameters), EncoderConfig.from_mapping(ENCODER)
    truth = objective(config, parameters, [batch], TRAINING["seed"], 1)
    assert outside(session.gradients([batch]), truth) == []
    assert outside(session.gradients(cut(batch)[::-1]), truth) == []


def test_what_padding_holds_changes_no_value_and_no_gradient() -> None:
    batch, session = batch_of(3), session_of()
    before = session.gradients([batch])
    padding = ~batch["attention_mask"]
    for name, value in (("inputs", 51), ("targets", 9), ("token_type_ids", 1), ("position", 77)):
        batch[name][padding] = value
    batch["position_ids"][padding] = 31
    batch["sequence_id"][padding] = batch["sequence_id"][0, 0]
    after = session.gradients([batch])
    assert after["sum"] == before["sum"]
    for name, gradient in before["gradients"].items():
        np.testing.assert_array_equal(after["gradients"][name], gradient)


def test_a_row_that_is_all_padding_is_allowed_and_does_nothing() -> None:
    batch, session = batch_of(3), session_of()
    alone = session.gradients([{name: x[1:] for name, x in batch.items()}])
    batch["attention_mask"][0], batch["selected"][0] = False, False
    got = session.gradients([batch])
    assert got["count"] == alone["count"]
    assert all(np.isfinite(x).all() for x in got["gradients"].values())
    used = set(batch["position_ids"][1:].ravel())
    unused = [i for i in range(32) if i not in used]
    table = got["gradients"]["bert.embeddings.position_embeddings.weight"]
    assert not table[unused].any()


def test_dropped_units_are_those_of_the_stream_one_word_at_a_time() -> None:
    batch, update, p = batch_of(4), 2**32 + 5, Fraction(2, 5)
    places = layout_of(tensors_of(batch)).places
    run = run_of(TRAINING["seed"], 5)
    keys = dropout.dropout_keys(run, 3)
    for layer, site in ((0, 0), (2, 2), (1, 3)):
        got = dropout.dropout_keep(keys[layer, site], places, 7, p)
        for row, column in ((0, 0), (1, 13), (2, 6)):
            want = kept(5, site, layer, batch, row, column, range(7), p)
            assert got[row, column].tolist() == want.tolist()
    far = run_of(TRAINING["seed"], update)
    assert far.view(torch.uint32).tolist()[2:] == [5, 1]


def test_dropped_units_depend_on_no_batch_order_or_padding() -> None:
    places = layout_of(tensors_of(batch_of(4))).places
    key = dropout.dropout_keys(run_of(1, 1), 1)[0, 0]
    whole = dropout.dropout_keep(key, places, 12, Fraction(1, 2))
    order = torch.tensor([2, 0])
    some = type(places)(*(part[order][:, 3:9] for part in places))
    assert torch.equal(dropout.dropout_keep(key, some, 12, Fraction(1, 2)), whole[order][:, 3:9])


def test_a_large_batch_drops_what_its_blocks_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    places = layout_of(tensors_of(batch_of(4))).places
    key = dropout.dropout_keys(run_of(1, 1), 1)[0, 0]
    whole = dropout.dropout_keep(key, places, 10, Fraction(1, 2))
    monkeypatch.setattr(dropout, "_BLOCK", 8)
    assert torch.equal(dropout.dropout_keep(key, places, 10, Fraction(1, 2)), whole)


def test_every_update_drops_other_units() -> None:
    session, batch = session_of(learning_rate=1e-300), batch_of(2)
    first, again = (session.gradients([batch])["sum"] for _ in range(2))
    session.step([batch])
    assert first == again != session.gradients([batch])["sum"]


def test_unselected_logits_never_exist_in_training() -> None:
    wide = NO_DROPOUT | {"vocab_size": 4096}
    model = MaskedLanguageModel(EncoderConfig.from_mapping(wide))
    batch = tensors_of(batch_of(1))
    selected = torch.zeros_like(batch.selected)
    selected[1, 2:4] = True
    batch = batch._replace(selected=selected)
    with Watch() as watch:
        model(batch, layout_of(batch), 2, torch.float32).sum.backward()
    table = 4 * wide["vocab_size"] * wide["hidden_size"]
    assert watch.largest == table  # the gradient of the embedding itself
    assert table < 4 * selected.numel() * wide["vocab_size"]


def test_compiled_parts_compute_the_same() -> None:
    torch._dynamo.reset()
    parameters, batch = parameters_of(), tensors_of(batch_of(1))
    found = []
    for backend in (None, "eager"):
        model = MaskedLanguageModel(EncoderConfig.from_mapping(ENCODER)).double()
        model.load_state_dict({name: torch.tensor(x) for name, x in parameters.items()})
        if backend:
            model.compile_parts(backend)
        run = run_of(3, 1)
        result = model(batch, layout_of(batch, grid=True), 20, torch.float64, run)
        result.sum.backward()
        found.append([result.sum, *(x.grad for x in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_new_model_starts_as_bert_does() -> None:
    torch.manual_seed(0)
    model = mlm_torch.MaskedLanguageModel(EncoderConfig.from_mapping(ENCODER))
    words = model.bert["embeddings"].word_embeddings.weight
    assert 0.015 < words.std() < 0.025
    for name, value in model.named_parameters():
        if value.dim() == 1:
            start = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            assert (value == start).all(), name
    names = [name for name, _ in model.named_parameters() if "layer.1." in name]
    assert "bert.encoder.layer.1.attention.self.query.weight" in names
    assert "bert.encoder.layer.1.attention.output.LayerNorm.bias" in names
    assert len(names) == 16

"""What the encoder does not depend on, bit for bit, and what it does depend on."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, batch_of, columns, padded, random_parameters, rows, tiny_batch
from mlm_conformance.perturbed import envelope, relative, unit_of

from mlm_spec import head
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import encode, hidden_states
from mlm_spec.training.gradients import gradient_magnitudes, objective, objective_and_gradients
from mlm_spec.training.layers import gelu, identity, layer_norm, linear
from mlm_spec.training.parameters import WORDS, checked, pair, shapes
from mlm_spec.training.places import real_places

PARAMETERS = random_parameters(TINY, seed=1)
BATCH = tiny_batch()
DROPOUT = Dropout(seed=7, update=2)
BOTH = pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["still", "dropout"])


def everything(
    batch: Any, dropout: Dropout | None = None, rounded: Any = identity
) -> dict[str, Any]:
    """The sum, the count, the gradients and the hidden states at real positions, row by row."""
    settings: dict[str, Any] = {"dropout": dropout, "rounded": rounded}
    result = objective_and_gradients(PARAMETERS, batch, TINY, **settings)
    hidden = encode(PARAMETERS, batch, TINY, **settings)[batch.attention_mask]
    return {"sum": result.sum, "count": result.count, "hidden": hidden, **result.gradients}


@cache
def allowed(dropout: Dropout | None) -> dict[str, float]:
    """What rounding may do to results that are taken in another order."""
    still = everything(BATCH, dropout)
    sizes = {name: np.full(np.shape(v), np.abs(v).max()) for name, v in still.items()}
    sizes |= gradient_magnitudes(PARAMETERS, BATCH, TINY, dropout=dropout)

    def run(rounded: Any) -> dict[str, Any]:
        found = everything(BATCH, dropout, rounded)
        return {name: np.asarray(value) for name, value in found.items()}

    return envelope(run, sizes, unit_of(TINY, BATCH))


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not np.array_equal(one[name], other[name])]
    assert different == []


def with_garbage(batch: Any, seed: int) -> Any:
    """Other values wherever there is padding, each one a legal id."""
    rng = np.random.default_rng(seed)
    shape, real = batch.inputs.shape, batch.attention_mask
    return batch._replace(
        inputs=np.where(real, batch.inputs, rng.integers(0, TINY.vocab_size, shape)),
        targets=np.where(real, batch.targets, -100),
        token_type_ids=np.where(real, batch.token_type_ids, rng.integers(0, 2, shape)),
        position_ids=np.where(real, batch.position_ids, rng.integers(0, 5, shape)),
        sequence_id=np.where(real[..., None], batch.sequence_id, batch.sequence_id[0, 0]),
        position=np.where(real, batch.position, rng.integers(0, 9, shape)).astype(np.uint32),
    )


@BOTH
def test_what_padding_holds_changes_nothing(dropout: Dropout | None) -> None:
    assert not BATCH.attention_mask.all()
    for seed in range(3):
        changed = with_garbage(BATCH, seed)
        assert not np.array_equal(changed.inputs, BATCH.inputs)
        assert_same(everything(changed, dropout), everything(BATCH, dropout))


@BOTH
def test_more_padding_changes_nothing(dropout: Dropout | None) -> None:
    assert_same(everything(padded(BATCH, 11), dropout), everything(BATCH, dropout))
    left = padded(BATCH, 11)
    left = columns(left, np.roll(np.arange(11), 5))
    assert not left.attention_mask[:, 0].any()
    assert_same(everything(left, dropout), everything(BATCH, dropout))


@BOTH
def test_packed_rows_are_the_rows_alone(dropout: Dropout | None) -> None:
    one = batch_of([[(5, 2), (6, 3), (7, 4)]], TINY, seed=8)
    parts = [(0, 2), (2, 5), (5, 9)]
    alone = [padded(columns(one, slice(*part)), 5) for part in parts]
    apart = type(one)(*(np.concatenate(arrays) for arrays in zip(*alone, strict=True)))
    assert apart.inputs.shape == (3, 5)
    assert_same(everything(apart, dropout), everything(one, dropout))


def test_a_sequence_may_lie_in_any_columns_of_its_row() -> None:
    order = [3, 0, 4, 1, 2, 5]
    found = encode(PARAMETERS, columns(BATCH, order), TINY)
    expected = encode(PARAMETERS, BATCH, TINY)
    # Sums over keys are taken in the order of the columns, so the last bits may differ.
    scale = np.full(found.shape, np.abs(expected).max())
    assert relative(found, expected[:, order], scale) <= allowed(None)["hidden"]


def test_every_position_sees_all_of_its_sequence_and_nothing_else() -> None:
    still = hidden_states(PARAMETERS, BATCH, TINY)[1]
    ids, real = BATCH.sequence_id, BATCH.attention_mask
    for i in np.argwhere(real):
        changed = BATCH._replace(inputs=BATCH.inputs.copy())
        changed.inputs[tuple(i)] = (changed.inputs[tuple(i)] + 1) % TINY.vocab_size
        moved = (hidden_states(PARAMETERS, changed, TINY)[1] != still).any(axis=-1)
        expected = np.zeros_like(moved)
        same_row = (ids[i[0]] == ids[tuple(i)]).all(axis=-1) & real[i[0]]
        expected[i[0]] = same_row
        assert np.array_equal(moved, expected), i


def test_the_same_sequence_id_in_another_row_is_another_sequence() -> None:
    batch = batch_of([[(5, 2)], [(5, 2)]], TINY, seed=3)
    assert [len(part) for part in real_places(batch).sequences] == [2, 2]


def test_position_and_token_type_embeddings_are_read_where_they_say() -> None:
    still = encode(PARAMETERS, BATCH, TINY)
    for name, size in (("position_ids", 5), ("token_type_ids", 2)):
        moved = BATCH._replace(**{name: (getattr(BATCH, name) + 1) % size})
        assert (encode(PARAMETERS, moved, TINY) != still)[BATCH.attention_mask].any()
    # The position in the source sequence keys dropout, and is no row of a table.
    renamed = BATCH._replace(position=BATCH.position + np.uint32(900))
    assert np.array_equal(encode(PARAMETERS, renamed, TINY), still)


@BOTH
def test_sums_counts_and_gradients_of_micro_batches_add_up(dropout: Dropout | None) -> None:
    whole = objective_and_gradients(PARAMETERS, BATCH, TINY, dropout=dropout)
    scale = gradient_magnitudes(PARAMETERS, BATCH, TINY, dropout=dropout)
    parts = [
        objective_and_gradients(PARAMETERS, rows(BATCH, [row]), TINY, dropout=dropout)
        for row in (1, 0)
    ]
    assert sum(int(part.count) for part in parts) == int(whole.count) == BATCH.selected.sum()
    total, size = np.array([sum(float(p.sum) for p in parts)]), np.array([abs(whole.sum)])
    assert relative(total, np.array([whole.sum]), size) <= allowed(dropout)["sum"]
    for name, gradient in whole.gradients.items():
        added = parts[0].gradients[name] + parts[1].gradients[name]
        assert relative(added, gradient, scale[name]) <= allowed(dropout)[name], name


def test_the_tied_table_has_the_gradients_of_both_of_its_uses() -> None:
    batch = BATCH._replace(selected=BATCH.attention_mask)
    result = objective_and_gradients(PARAMETERS, batch, TINY).gradients[WORDS]
    unread = np.setdiff1d(np.arange(TINY.vocab_size), batch.inputs[batch.attention_mask])
    assert 0 < len(unread) < TINY.vocab_size
    # An id that is read nowhere still learns as an output; one that is, learns as both.
    decoder = of_head(batch).grad_weight
    assert np.array_equal(result[unread], decoder[unread])
    read = np.setdiff1d(np.arange(TINY.vocab_size), unread)
    assert (result[read] != decoder[read]).any(axis=-1).all()


def test_value_and_last_gradients_are_those_of_the_head_bit_for_bit() -> None:
    result = objective_and_gradients(PARAMETERS, BATCH, TINY)
    expected = of_head(BATCH)
    assert (result.sum, result.count) == (expected.sum, expected.count)
    assert np.array_equal(result.gradients["cls.predictions.bias"], expected.grad_bias)
    assert objective(PARAMETERS, BATCH, TINY) == (expected.sum, expected.count)


def of_head(batch: Any) -> Any:
    """`mlm_spec.head` at the transform of the hidden states, which is put together here."""
    start, eps = "cls.predictions.transform", TINY.layer_norm_eps
    hidden = encode(PARAMETERS, batch, TINY)[batch.selected]
    active, _ = gelu(linear(hidden, *pair(PARAMETERS, f"{start}.dense"), identity), identity)
    states, _ = layer_norm(active, *pair(PARAMETERS, f"{start}.LayerNorm"), eps, identity)
    everywhere = np.zeros((*batch.inputs.shape, TINY.hidden_size))
    everywhere[batch.selected] = states
    bias = PARAMETERS["cls.predictions.bias"]
    return head(everywhere, PARAMETERS[WORDS], bias, batch.targets, batch.selected)


# Nothing ---------------------------------------------------------------------------------------


def test_nothing_selected_is_nothing_to_learn() -> None:
    idle = BATCH._replace(selected=np.zeros_like(BATCH.selected))
    result = objective_and_gradients(PARAMETERS, idle, TINY, dropout=DROPOUT)
    assert (float(result.sum), int(result.count)) == (0.0, 0)
    assert {name: g.shape for name, g in result.gradients.items()} == shapes(TINY)
    assert not any(g.any() for g in result.gradients.values())
    assert objective(PARAMETERS, idle, TINY) == (0.0, 0)
    assert not any(m.any() for m in gradient_magnitudes(PARAMETERS, idle, TINY).values())


@pytest.mark.parametrize("shape", [(0, 6), (2, 0)])
def test_a_batch_without_positions_is_nothing_too(shape: tuple[int, int]) -> None:
    empty = type(BATCH)(*(array[: shape[0], : shape[1]] for array in BATCH))
    assert encode(PARAMETERS, empty, TINY).shape == (*shape, TINY.hidden_size)
    assert objective_and_gradients(PARAMETERS, empty, TINY, dropout=DROPOUT).count == 0


def test_a_batch_of_padding_alone_has_no_hidden_states() -> None:
    nothing = np.zeros_like(BATCH.selected)
    void = BATCH._replace(attention_mask=nothing, selected=nothing)
    assert not encode(PARAMETERS, void, TINY).any()
    assert objective(PARAMETERS, void, TINY, dropout=DROPOUT) == (0.0, 0)


def test_without_layers_the_embeddings_go_to_the_head() -> None:
    config = EncoderConfig(**{**TINY.to_mapping(), "num_hidden_layers": 0})
    parameters = random_parameters(config, seed=1)
    (hidden,) = hidden_states(parameters, BATCH, config)
    assert np.array_equal(hidden, hidden_states(PARAMETERS, BATCH, TINY)[0])
    assert objective_and_gradients(parameters, BATCH, config).count == BATCH.selected.sum()


# Purity ----------------------------------------------------------------------------------------


def test_a_call_changes_neither_its_arguments_nor_any_global_state() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()
    kept = {n: v.copy() for n, v in PARAMETERS.items()}, [array.copy() for array in BATCH]
    one = everything(BATCH, DROPOUT)
    other = everything(BATCH, Dropout(seed=7, update=3))
    assert_same(everything(BATCH, DROPOUT), one)
    assert not np.array_equal(one["hidden"], other["hidden"])
    assert all(np.array_equal(PARAMETERS[name], value) for name, value in kept[0].items())
    assert all(np.array_equal(a, b) for a, b in zip(BATCH, kept[1], strict=True))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_narrow_parameters_are_converted_exactly() -> None:
    narrow = {name: value.astype(np.float32) for name, value in PARAMETERS.items()}
    wide = {name: value.astype(np.float64) for name, value in narrow.items()}
    one, other = (objective_and_gradients(p, BATCH, TINY) for p in (narrow, wide))
    assert one.sum == other.sum
    assert all(np.array_equal(one.gradients[n], other.gradients[n]) for n in narrow)
    assert {g.dtype.name for g in one.gradients.values()} == {"float64"}


def test_ids_of_both_widths_and_any_layout_give_the_same() -> None:
    wide = BATCH._replace(
        inputs=np.asfortranarray(BATCH.inputs.astype(np.int32)),
        targets=BATCH.targets.astype(np.int32),
        position_ids=BATCH.position_ids.astype(np.int32),
        token_type_ids=np.asfortranarray(BATCH.token_type_ids),
        selected=np.asfortranarray(BATCH.selected),
    )
    assert_same(everything(wide), everything(BATCH))


def test_rounding_reaches_every_result() -> None:
    """What a narrow dtype would store is stored: all results are float32 numbers."""

    def single(values: Any) -> Any:
        return values.astype(np.float32).astype(np.float64)

    found = everything(BATCH, DROPOUT, single)
    states = hidden_states(PARAMETERS, BATCH, TINY, dropout=DROPOUT, rounded=single)
    assert all(np.array_equal(single(state), state) for state in states)
    for name in ["sum", *PARAMETERS]:
        assert np.array_equal(single(np.asarray(found[name])), found[name]), name
        assert not np.array_equal(found[name], everything(BATCH, DROPOUT)[name]), name


def test_the_encoder_needs_no_head() -> None:
    own = {n: v for n, v in PARAMETERS.items() if n.startswith("bert.")}
    assert np.array_equal(encode(own, BATCH, TINY), encode(PARAMETERS, BATCH, TINY))
    assert checked(own, TINY, head=False).keys() == own.keys()

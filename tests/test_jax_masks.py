"""The JAX backend's masks are the reference's bit by bit, for every law, unit and layout."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import mlm_jax
import numpy as np
import pytest
from jax_cases import LAWS, PORT, UNITS, assert_same_batch, packed, policy
from mlm_jax.masking import jitted_mask_step
from mlm_jax.sequences import Source, has_one_sequence_a_row, is_contiguous

import mlm_spec
from mlm_spec.policy import Bernoulli

POOLS: tuple[Any, ...] = ("regular", "all", (5,), (4, 7, 11, 19), tuple(range(1, 32, 2)))


def in_order(rows: int, columns: int, vocab: int, seed: int) -> list[Any]:
    """Two sequences a row, one after the other, from position 0: the layout of packed rows."""
    tokens, sequence, position, word, eligible = packed(rows, columns, vocab, seed)
    half = columns // 2
    sequence[...] = np.arange(rows)[:, None, None]
    sequence[:, half:] += np.uint32(100)
    position[...] = np.arange(columns)
    position[:, half:] -= np.uint32(half)
    return [tokens, sequence, position, word, eligible]


def alone(rows: int, columns: int, vocab: int, seed: int) -> list[Any]:
    """One sequence a row, a window from position 3, and padding of another sequence."""
    tokens, sequence, position, word, eligible = packed(rows, columns, vocab, seed)
    sequence[...] = np.arange(rows)[:, None, None] + 1
    position[...] = np.arange(columns) + 3
    tokens[:, columns - columns // 4 :] = 0
    eligible[:, columns - columns // 4 :] = False
    return [tokens, sequence, position, word, eligible]


LAYOUTS = {"packed": packed, "in order": in_order, "alone": alone}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("law", "unit"), UNITS)
def test_masks_are_those_of_the_reference(law: str, unit: str, layout: str) -> None:
    for i, pool in enumerate(POOLS):
        source = LAYOUTS[layout](3, 24, 32, seed=i)
        rules = policy(LAWS[law], unit=unit, pool=pool)
        seed, epoch = 2**64 - 1 - i, 2**32 + i
        want = mlm_spec.mask(*source, rules, seed, epoch)
        assert_same_batch(PORT.mask(*source, rules, seed, epoch), want)


@pytest.mark.parametrize(("law", "unit"), [pair for pair in UNITS if " " not in pair[0]])
def test_a_static_law_gives_the_masks_of_a_dynamic_one(law: str, unit: str) -> None:
    rules, source = policy(LAWS[law], unit=unit), packed(3, 24, 32, seed=3)
    source[0] = source[0].astype(np.int32)
    plan = mlm_jax.make_plan(rules, 24)
    assert (plan.law, plan.unit) == (law, unit)
    step = jitted_mask_step(*source, plan, mlm_jax.key_words(7, 8))
    assert_same_batch(step[:3], mlm_spec.mask(*source, rules, 7, 8))


def test_layouts_take_the_branches_they_are_meant_for() -> None:
    seen = {}
    for name, layout in LAYOUTS.items():
        source = Source(*(jnp.asarray(x) for x in layout(2, 16, 32, seed=0)))
        matters = source.eligible
        seen[name] = bool(is_contiguous(source)), bool(has_one_sequence_a_row(source, matters))
    assert seen == {"packed": (False, False), "in order": (True, False), "alone": (False, True)}


@pytest.mark.parametrize("law", [name for name in LAWS if name.startswith("count")])
def test_equal_words_and_positions_are_ranked_by_column(law: str) -> None:
    """Positions that repeat give equal words: only a stable order decides."""
    source = alone(3, 24, 32, seed=1)
    source[2] //= 4
    rules = policy(LAWS[law])
    assert_same_batch(PORT.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))
    source[1] = packed(3, 24, 32, seed=1)[1]
    assert_same_batch(PORT.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))


def test_a_window_has_the_spans_of_the_whole_sequence() -> None:
    tokens, sequence, position, _word, eligible = in_order(3, 48, 32, seed=2)
    sequence[...] = 5
    position[...] = np.arange(48)
    rules = policy(LAWS["span"], unit="span")
    whole = PORT.mask(tokens, sequence, position, None, eligible, rules, 1, 1)
    cut = slice(17, 41)
    parts = [x[:, cut] for x in (tokens, sequence, position)]
    window = PORT.mask(*parts, None, eligible[:, cut], rules, 1, 1)
    np.testing.assert_array_equal(window.selected, whole.selected[:, cut])
    np.testing.assert_array_equal(window.inputs, whole.inputs[:, cut])


def test_the_fourth_word_draws_where_the_third_is_too_large() -> None:
    """rate 1, all random, K = 250,002: 2³² mod K of 2³² words are refused."""
    vocab, shape = 250_006, (256, 512)
    tokens = np.full(shape, 9, np.int32)
    sequence = np.zeros((*shape, 2), np.uint32)
    sequence[..., 0] = np.arange(256)[:, None]
    position = np.broadcast_to(np.arange(512, dtype=np.uint32), shape)
    rules = policy(Bernoulli(1), "0 1 0", vocab_size=vocab)
    assert rules.pool_size == 250_002
    arguments = (tokens, sequence, position, None, np.ones(shape, bool), rules, 0, 0)
    _, _, third, _ = mlm_spec.random_words(0, 0, sequence, position, mlm_spec.Stream.TOKEN)
    refused = third > 2**32 // 250_002 * 250_002 - 1
    assert refused.sum() > 0
    seen, want = PORT.mask(*arguments), mlm_spec.mask(*arguments)
    np.testing.assert_array_equal(seen.inputs[refused], want.inputs[refused])
    np.testing.assert_array_equal(seen.inputs, want.inputs)


@pytest.mark.parametrize("special", [tuple(range(0, 300, 3)), ()])
@pytest.mark.parametrize("pool", ["regular", tuple(range(0, 300, 2))])
def test_any_special_ids_and_pools_are_kept(special: tuple[int, ...], pool: Any) -> None:
    source = packed(3, 24, 300, seed=4)
    rules = policy(
        Bernoulli("4/5"), "0 1 0", vocab_size=300, pad_id=None, special_ids=special, pool=pool
    )
    assert_same_batch(PORT.mask(*source, rules, 3, 4), mlm_spec.mask(*source, rules, 3, 4))


@pytest.mark.parametrize("shape", [(1, 1), (0, 8), (3, 0)])
def test_the_smallest_batches_are_masked(shape: tuple[int, int]) -> None:
    for law, unit in UNITS:
        source = packed(*shape, 32, seed=6) if shape[0] else [x[:0] for x in packed(1, 8, 32, 6)]
        rules = policy(LAWS[law], unit=unit)
        assert_same_batch(PORT.mask(*source, rules, 5, 6), mlm_spec.mask(*source, rules, 5, 6))


def test_masking_leaves_the_arguments_alone_and_returns_new_arrays() -> None:
    source = packed(3, 24, 32, seed=8)
    before = [x.copy() for x in source]
    batch = PORT.mask(*source, policy(Bernoulli("1/2")), 1, 1)
    for array in batch:
        array[...] = 0
    for kept, array in zip(before, source, strict=True):
        np.testing.assert_array_equal(array, kept)

"""The JAX backend: its masks bit for bit, its numbers within derived bounds, its errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import mlm_jax
import numpy as np
import pytest
from mlm_conformance.bounds import (
    arithmetic,
    gradient_bound,
    head_bounds,
    sum_bound,
    value_bound,
)
from mlm_jax.head import jitted_head_step, rounded_capacity
from mlm_jax.masking import jitted_mask_step
from mlm_jax.objective import jitted_score_step
from mlm_jax.random_words import TOKEN, words_at
from mlm_jax.sequences import Source, has_one_sequence_a_row, is_contiguous
from mlm_jax.thresholds import Threshold, below, step_value

import mlm_spec
from mlm_spec.batch import Status
from mlm_spec.errors import (
    CapacityError,
    DeviceError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    MlmSpecError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
SPECIAL = (0, 1, 2, 3)
compiled: list[str] = []


def _note_compilation(event: str, _seconds: float, **_rest: Any) -> None:
    if event == COMPILE_EVENT:
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


@pytest.fixture(scope="module")
def port() -> mlm_jax.JaxPort:
    return mlm_jax.JaxPort()


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def policy(selection: Any, weights: str = "1/3 1/3 1/3", unit: str = "token", **rest: Any) -> Any:
    mask, random, keep = weights.split()
    fields = {"vocab_size": 32, "mask_id": 3, "pad_id": 0, "special_ids": SPECIAL, **rest}
    return MaskingPolicy(selection, Corruption(mask, random, keep, unit), **fields)  # type: ignore[arg-type]


LAWS = {
    "bernoulli": Bernoulli("3/10"),
    "count": FixedCount("3/20"),
    "count half even": FixedCount("1/2", floor=1, cap=3, base="all", rounding="half_even"),
    "count ceiling": FixedCount("1/3", rounding="ceiling", base="all"),
    "count floor": FixedCount("1/7", floor=2),
    "word": WholeWord("1/3"),
    "span": Span("1/5", ("1/2", "1/4", "1/4")),
    "span of one": Span("1/2", ("1",)),
    "span of 64": Span("1/50", ("1/64",) * 64),
}
UNITS = [(law, unit) for law in LAWS for unit in ("token", "word", "span")]
UNITS = [(law, unit) for law, unit in UNITS if unit != "span" or law.startswith("span")]
POOLS: tuple[Any, ...] = ("regular", "all", (5,), (4, 7, 11, 19), tuple(range(1, 32, 2)))


def packed(rows: int, columns: int, vocab: int, seed: int) -> list[Any]:
    """Two sequences a row in scattered columns, shuffled positions, words in any order."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(vocab, size=(rows, columns)),
        rng.integers(2, size=(rows, columns, 2)).astype(np.uint32) * np.uint32(2**32 - 1),
        np.stack([rng.permutation(columns) for _ in range(rows)]).astype(np.uint32),
        rng.integers(-1, max(columns // 3, 1), size=(rows, columns)).astype(np.int32),
        rng.random((rows, columns)) < 0.9,
    ]


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


def assert_same_batch(seen: Any, want: Any) -> None:
    for name, a, b in zip(("inputs", "targets", "selected"), seen, want, strict=True):
        assert np.asarray(a).dtype == b.dtype, name
        np.testing.assert_array_equal(np.asarray(a), b, err_msg=name)


# Random words


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
        ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
        (
            "a4093822 299f31d0 082efa98 ec4e6c89",
            "243f6a88 85a308d3 13198a2e 03707344",
            "59cd1dbb b8879579 86b5d00c ac8b6d84",
        ),
    ],
)
def test_threefry_gives_the_published_known_answers(
    port: mlm_jax.JaxPort, key: str, counter: str, words: str
) -> None:
    def block(text: str) -> np.ndarray:
        return np.array([[int(word, 16) for word in text.split()]], np.uint32)

    np.testing.assert_array_equal(
        port.random_words(block(key), block(counter))["words"], block(words)
    )


def test_random_words_are_those_of_a_scalar_transcription(port: mlm_jax.JaxPort) -> None:
    rng = np.random.default_rng(5)
    key, counter = rng.integers(2**32, size=(2, 70, 4), dtype=np.uint32)
    want = [_threefry(k, c) for k, c in zip(key.tolist(), counter.tolist(), strict=True)]
    np.testing.assert_array_equal(port.random_words(key, counter)["words"], want)


def _threefry(key: list[int], counter: list[int]) -> list[int]:
    """Plain integers, one block."""
    turns = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    keys = [*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ 0x1BD11BDA]
    x = [(c + k) % 2**32 for c, k in zip(counter, keys, strict=False)]
    for r in range(20):
        for a, b, by in (
            (0, 1 + 2 * (r % 2), turns[r % 8][0]),
            (2, 3 - 2 * (r % 2), turns[r % 8][1]),
        ):
            x[a] = (x[a] + x[b]) % 2**32
            x[b] = ((x[b] << by | x[b] >> (32 - by)) % 2**32) ^ x[a]
        if r % 4 == 3:
            s = r // 4 + 1
            x = [(v + keys[(s + i) % 5] + s * (i == 3)) % 2**32 for i, v in enumerate(x)]
    return x


def test_the_key_takes_all_128_bits_of_seed_and_epoch() -> None:
    assert mlm_jax.key_words(2**64 - 2, 2**32).tolist() == [2**32 - 2, 2**32 - 1, 0, 1]


# Thresholds


@pytest.mark.parametrize("p", ["0", "1/4294967296", "3/20", "4294967295/4294967296", "1"])
def test_words_on_both_sides_of_a_threshold_are_told_apart(p: str) -> None:
    limit = -(-Fraction(p).numerator * 2**32 // Fraction(p).denominator)
    words = [w for w in (0, 1, limit - 1, limit, limit + 1, 2**32 - 1) if 0 <= w < 2**32]
    plan = mlm_jax.make_plan(policy(Bernoulli(p)), 4)
    seen = below(jnp.array(words, jnp.uint32), Threshold(*map(jnp.asarray, plan.rate)))
    assert seen.tolist() == [word < limit for word in words]


@pytest.mark.parametrize(
    ("sequence", "position", "selected"), [(2579409, 129, True), (1271431, 440, False)]
)
def test_the_words_next_to_the_threshold_of_15_percent_are_decided(
    port: mlm_jax.JaxPort, sequence: int, position: int, selected: bool
) -> None:
    ids, place = np.array([[[sequence, 0]]], np.uint32), np.array([[position]], np.uint32)
    word = int(
        words_at(jnp.zeros(4, jnp.uint32), jnp.asarray(ids), jnp.asarray(place), TOKEN)[0][0, 0]
    )
    assert word == 644245095 - selected  # T(3/20) - 1, and T(3/20)
    tokens, eligible = np.array([[9]]), np.array([[True]])
    batch = port.mask(tokens, ids, place, None, eligible, policy(Bernoulli("3/20")), 0, 0)
    assert batch.selected.tolist() == [[selected]]


@pytest.mark.parametrize("size", [1, 8, 32, 33, 100])
def test_small_and_large_tables_are_read_alike(size: int) -> None:
    first = np.arange(size, dtype=np.uint32) * 7 + 3
    value = np.arange(size, dtype=np.uint32) + 11
    x = np.arange(7 * size + 10, dtype=np.uint32).reshape(1, -1)
    want = [0 if v < 3 else int(value[min((v - 3) // 7, size - 1)]) for v in x[0].tolist()]
    assert step_value(jnp.asarray(first), jnp.asarray(value), jnp.asarray(x))[0].tolist() == want


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "ceiling"])
@pytest.mark.parametrize("rate", ["0", "1/2", "3/20", "5/6", "1"])
def test_the_table_of_counts_is_exact(rounding: Any, rate: str) -> None:
    law = FixedCount(rate, floor=1, cap=9, rounding=rounding)
    plan = mlm_jax.make_plan(policy(law), 40)
    want = [mlm_spec.selection.fixed_count(law, n, 40) for n in range(41)]
    assert plan.counts.tolist() == want


# Masks


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("law", "unit"), UNITS)
def test_masks_are_those_of_the_reference(
    port: mlm_jax.JaxPort, law: str, unit: str, layout: str
) -> None:
    for i, pool in enumerate(POOLS):
        source = LAYOUTS[layout](3, 24, 32, seed=i)
        rules = policy(LAWS[law], unit=unit, pool=pool)
        seed, epoch = 2**64 - 1 - i, 2**32 + i
        want = mlm_spec.mask(*source, rules, seed, epoch)
        assert_same_batch(port.mask(*source, rules, seed, epoch), want)


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
def test_equal_words_and_positions_are_ranked_by_column(port: mlm_jax.JaxPort, law: str) -> None:
    """Positions that repeat give equal words: only a stable order decides."""
    source = alone(3, 24, 32, seed=1)
    source[2] //= 4
    rules = policy(LAWS[law])
    assert_same_batch(port.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))
    source[1] = packed(3, 24, 32, seed=1)[1]
    assert_same_batch(port.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))


def test_a_window_has_the_spans_of_the_whole_sequence(port: mlm_jax.JaxPort) -> None:
    tokens, sequence, position, _word, eligible = in_order(3, 48, 32, seed=2)
    sequence[...] = 5
    position[...] = np.arange(48)
    rules = policy(LAWS["span"], unit="span")
    whole = port.mask(tokens, sequence, position, None, eligible, rules, 1, 1)
    cut = slice(17, 41)
    parts = [x[:, cut] for x in (tokens, sequence, position)]
    window = port.mask(*parts, None, eligible[:, cut], rules, 1, 1)
    np.testing.assert_array_equal(window.selected, whole.selected[:, cut])
    np.testing.assert_array_equal(window.inputs, whole.inputs[:, cut])


def test_the_fourth_word_draws_where_the_third_is_too_large(port: mlm_jax.JaxPort) -> None:
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
    seen, want = port.mask(*arguments), mlm_spec.mask(*arguments)
    np.testing.assert_array_equal(seen.inputs[refused], want.inputs[refused])
    np.testing.assert_array_equal(seen.inputs, want.inputs)


@pytest.mark.parametrize("special", [tuple(range(0, 300, 3)), ()])
@pytest.mark.parametrize("pool", ["regular", tuple(range(0, 300, 2))])
def test_any_special_ids_and_pools_are_kept(
    port: mlm_jax.JaxPort, special: tuple[int, ...], pool: Any
) -> None:
    source = packed(3, 24, 300, seed=4)
    rules = policy(
        Bernoulli("4/5"), "0 1 0", vocab_size=300, pad_id=None, special_ids=special, pool=pool
    )
    assert_same_batch(port.mask(*source, rules, 3, 4), mlm_spec.mask(*source, rules, 3, 4))


@pytest.mark.parametrize("shape", [(1, 1), (0, 8), (3, 0)])
def test_the_smallest_batches_are_masked(port: mlm_jax.JaxPort, shape: tuple[int, int]) -> None:
    for law, unit in UNITS:
        source = packed(*shape, 32, seed=6) if shape[0] else [x[:0] for x in packed(1, 8, 32, 6)]
        rules = policy(LAWS[law], unit=unit)
        assert_same_batch(port.mask(*source, rules, 5, 6), mlm_spec.mask(*source, rules, 5, 6))


def test_masking_leaves_the_arguments_alone_and_returns_new_arrays(port: mlm_jax.JaxPort) -> None:
    source = packed(3, 24, 32, seed=8)
    before = [x.copy() for x in source]
    batch = port.mask(*source, policy(Bernoulli("1/2")), 1, 1)
    for array in batch:
        array[...] = 0
    for kept, array in zip(before, source, strict=True):
        np.testing.assert_array_equal(array, kept)


# The objective


def logits_of(kind: str, rng: np.random.Generator, rows: int, vocab: int) -> np.ndarray:
    logits = rng.normal(size=(rows, vocab)) * 3.0
    if kind == "offset":
        logits += rng.choice([200.0, -200.0, 1e4], size=(rows, 1))
    elif kind == "equal":
        logits[:] = 1.0
    elif kind == "likely":
        logits[:, 0] = 30.0
    elif kind == "improbable":
        logits[:, 0] = -1e4
    elif kind == "impossible":
        logits[:, 1::2] = -np.inf
    return logits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kind", ["normal", "offset", "equal", "likely", "improbable", "impossible"]
)
def test_value_and_gradient_are_within_the_any_order_bound(
    port: mlm_jax.JaxPort, kind: str, dtype: str
) -> None:
    """Against log p and w(1[j = t] − p), in long double from logits converted exactly."""
    rng = np.random.default_rng(11)
    for vocab in (1, 2, 64):
        logits = logits_of(kind, rng, 12, vocab).astype(DTYPES[dtype]).reshape(3, 4, vocab)
        targets = rng.integers(vocab, size=(3, 4)) // 2 * 2
        targets[0] = 0
        selected = rng.random((3, 4)) < 0.7
        weights = rng.uniform(-2, 2, size=(3, 4)).astype(np.float32)
        result = port.score(logits, targets, selected, weights)
        z, t, w = logits[selected].astype(np.float64), targets[selected], weights[selected]
        nats, gradient = _closed_form(z, t, w.astype(np.float64))
        how = arithmetic(dtype)
        bounds = value_bound(z, t, how)
        assert (np.abs(result.log_likelihood[selected] - nats) <= bounds).all()
        assert abs(float(result.sum) - (w * nats).sum()) <= sum_bound(nats, bounds, w, how)
        limits = gradient_bound(z, gradient, w.astype(np.float64), arithmetic(dtype, dtype))
        seen = result.grad_logits[selected].astype(np.float64)
        assert (np.abs(seen - gradient) <= limits).all()
        assert not seen[np.isneginf(z)].any()


def _closed_form(z: np.ndarray, t: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    depth = z.astype(np.longdouble) - z.max(axis=-1, keepdims=True)
    power = np.exp(depth)
    rows = np.arange(len(t))
    rest = power.copy()
    rest[rows, t] = 0
    total = power.sum(axis=-1)
    exact = np.where(depth[rows, t] == 0, -np.log1p(rest.sum(-1)), depth[rows, t] - np.log(total))
    gradient = -power / total[:, None]
    gradient[rows, t] = rest.sum(axis=-1) / total
    return exact.astype(np.float64), (w[:, None] * gradient).astype(np.float64)


@pytest.mark.parametrize("gap", [1.0, 5.0, 16.0, 40.0, 80.0])
def test_the_log_likelihood_keeps_its_relative_accuracy_near_probability_one(
    port: mlm_jax.JaxPort, gap: float
) -> None:
    """exp and log1p of at most 4 ulps each, one ulp being 2u: 16u, all else exact at V = 2."""
    logits = np.array([[[gap, 0.0]]], np.float32)
    result = port.score(logits, np.array([[0]]), np.array([[True]]))
    exact = -np.log1p(np.exp(np.longdouble(-gap)))
    assert abs(result.sum - exact) <= 16 * 2.0**-24 * (1 + 2.0**-10) * -exact
    assert result.grad_logits[0, 0, 0] > 0


def test_a_vocabulary_of_one_gives_exactly_zero(port: mlm_jax.JaxPort) -> None:
    logits = np.array([[[-7.5], [3.0]]], np.float32)
    result = port.score(logits, np.zeros((1, 2), np.int32), np.ones((1, 2), bool))
    assert (float(result.sum), int(result.count)) == (0.0, 2)
    assert not np.signbit(result.sum)
    assert not result.grad_logits.any()


def test_equal_float16_logits_are_summed_beyond_the_range_of_float16(
    port: mlm_jax.JaxPort,
) -> None:
    logits = np.zeros((1, 1, 65536), np.float16)
    result = port.score(logits, np.array([[65535]]), np.array([[True]]))
    bound = value_bound(logits[0], np.array([65535]), arithmetic("float16"))
    assert abs(float(result.sum) + np.log(65536)) <= bound[0]
    assert result.sum.dtype == np.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_dtypes_of_the_contract(port: mlm_jax.JaxPort, dtype: str) -> None:
    logits = np.zeros((2, 3, 5), DTYPES[dtype])
    result = port.score(logits, np.zeros((2, 3), np.int32), np.ones((2, 3), bool))
    wide = np.float64 if dtype == "float64" else np.float32
    assert result.sum.dtype == result.log_likelihood.dtype == wide
    assert result.grad_logits.dtype == logits.dtype
    assert np.issubdtype(result.count.dtype, np.integer)


def poisoned(shape: tuple[int, ...], selected: np.ndarray) -> np.ndarray:
    """Zeros where selected, NaN and +inf elsewhere."""
    values = np.where(np.arange(np.prod(shape)).reshape(shape) % 2, np.nan, np.inf)
    return np.where(selected[..., None], 0.0, values).astype(np.float32)


def test_nothing_at_unselected_positions_matters(port: mlm_jax.JaxPort) -> None:
    selected = np.array([[False, True, False, True]])
    clean = [np.zeros((1, 4, 6), np.float32), np.array([[1, 2, 3, 4]]), selected]
    weights = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    dirty = [poisoned((1, 4, 6), selected), np.array([[-100, 2, 2**40, 4]]), selected]
    bad = np.where(selected, weights, np.nan).astype(np.float32)
    for a, b in zip(port.score(*clean, weights), port.score(*dirty, bad), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not port.score(*dirty, bad).grad_logits[~selected].any()


def test_a_training_step_differentiates_to_the_gradient_of_score(port: mlm_jax.JaxPort) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 4, 8)).astype(np.float32)
    targets, selected = rng.integers(8, size=(2, 4)).astype(np.int32), rng.random((2, 4)) < 0.5

    @jax.jit
    def step(z: jax.Array) -> Any:
        return jax.value_and_grad(mlm_jax.log_likelihood_sum, has_aux=True)(z, targets, selected)

    (total, count), gradient = step(poisoned((2, 4, 8), selected) + logits)
    want = port.score(logits, targets, selected)
    assert (float(total), int(count)) == (float(want.sum), int(want.count))
    np.testing.assert_array_equal(gradient, want.grad_logits)


def test_the_gradient_for_the_weights_is_the_log_likelihood() -> None:
    logits, targets = jnp.arange(8.0).reshape(1, 2, 4), jnp.array([[0, 3]])
    selected = jnp.array([[True, False]])
    gradient = jax.grad(lambda w: mlm_jax.log_likelihood_sum(logits, targets, selected, w)[0])
    want = mlm_jax.log_likelihood(logits, targets, selected)
    np.testing.assert_array_equal(gradient(jnp.ones((1, 2))), want)


def test_a_target_outside_the_vocabulary_is_nan_in_a_step_that_cannot_raise() -> None:
    total, count = mlm_jax.log_likelihood_sum(
        jnp.zeros((1, 2, 4)), jnp.array([[4, 1]]), jnp.array([[True, True]])
    )
    assert np.isnan(total)
    assert int(count) == 2


# The head


def layer_of(dtype: str, seed: int = 0, d: int = 8, vocab: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = (rng.normal(size=(3, 4, d)), rng.normal(size=(vocab, d)), rng.normal(size=vocab))
    return [x.astype(DTYPES[dtype]) for x in arrays]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_head_and_its_three_gradients_are_within_the_any_order_bound(
    port: mlm_jax.JaxPort, dtype: str, biased: bool
) -> None:
    hidden, weight, bias = layer_of(dtype)
    rng = np.random.default_rng(2)
    targets, selected = rng.integers(64, size=(3, 4)), rng.random((3, 4)) < 0.6
    weights = rng.uniform(-2, 2, size=(3, 4)).astype(np.float32)
    result = port.head(hidden, weight, bias if biased else None, targets, selected, weights)
    states, matrix = hidden[selected].astype(np.float64), weight.astype(np.float64)
    offset = bias.astype(np.float64) if biased else None
    logits = states @ matrix.T + (0.0 if offset is None else offset)
    ids, shares = targets[selected], weights[selected].astype(np.float64)
    nats, signal = _closed_form(logits, ids, shares)
    limits = head_bounds(states, matrix, offset, ids, shares, signal, dtype)
    assert abs(float(result.sum) - (shares * nats).sum()) <= limits.sum
    assert int(result.count) == selected.sum()
    near = {
        "grad_hidden": (result.grad_hidden[selected], signal @ matrix),
        "grad_weight": (result.grad_weight, signal.T @ states),
    }
    if biased:
        near["grad_bias"] = (result.grad_bias, signal.sum(axis=0))
    for name, (seen, want) in near.items():
        assert seen.dtype == hidden.dtype
        off = np.abs(seen.astype(np.float64) - want)
        assert (off <= getattr(limits, name)).all(), name
    assert (result.grad_bias is None) == (not biased)


def test_unselected_hidden_states_do_not_leak_through_nan(port: mlm_jax.JaxPort) -> None:
    _, weight, bias = layer_of("float32", d=8)
    selected = np.array([[False, True, False], [True, False, False]])
    targets = np.where(selected, 5, -100)
    seen = port.head(poisoned((2, 3, 8), selected), weight, bias, targets, selected)
    want = port.head(np.zeros((2, 3, 8), np.float32), weight, bias, targets, selected)
    for a, b in zip(seen, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not seen.grad_hidden[~selected].any()
    assert seen.grad_hidden[selected].any()


def test_the_head_of_nothing_is_zero(port: mlm_jax.JaxPort) -> None:
    hidden, weight, bias = layer_of("float32")
    nothing = np.zeros((3, 4), bool)
    result = port.head(hidden * np.nan, weight, bias, np.full((3, 4), -100), nothing)
    assert (float(result.sum), int(result.count)) == (0.0, 0)
    assert not any(x.any() for x in result[2:])


def test_only_as_many_rows_of_logits_as_the_capacity_are_formed() -> None:
    hidden, weight = np.zeros((8, 16, 4), np.float32), np.zeros((1000, 4), np.float32)
    targets, selected = np.zeros((8, 16), np.int32), np.zeros((8, 16), bool)
    lowered = jitted_head_step.lower(hidden, weight, None, targets, selected, capacity=32)
    text = lowered.as_text()
    assert "tensor<32x1000xf32>" in text
    assert "tensor<128x1000xf32>" not in text
    assert "precision = [HIGHEST, HIGHEST]" in text
    assert "precision = [DEFAULT" not in text


jitted_head_sum = jax.jit(mlm_jax.head_log_likelihood_sum, static_argnames="capacity")


def test_a_capacity_of_exactly_the_count_holds_every_position() -> None:
    hidden, weight, bias = layer_of("float32")
    targets, selected = np.zeros((3, 4), np.int32), np.ones((3, 4), bool)
    total, count = jitted_head_sum(hidden, weight, bias, targets, selected, capacity=12)
    states, matrix = hidden.reshape(12, 8).astype(np.float64), weight.astype(np.float64)
    nats, signal = _closed_form(states @ matrix.T + bias, targets.reshape(-1), np.ones(12))
    limits = head_bounds(
        states, matrix, bias.astype(np.float64), targets.reshape(-1), np.ones(12), signal, "float32"
    )
    assert int(count) == 12
    assert abs(float(total) - nats.sum()) <= limits.sum


def test_an_overflow_of_the_differentiable_head_is_nan_and_the_count_is_true() -> None:
    hidden, weight, bias = layer_of("float32")
    targets, selected = np.zeros((3, 4), np.int32), np.ones((3, 4), bool)
    total, count = jitted_head_sum(hidden, weight, bias, targets, selected, capacity=11)
    assert np.isnan(total)
    assert int(count) == 12


def test_rounded_capacities_hold_the_count_and_are_few() -> None:
    rounded = {count: rounded_capacity(count, 5000) for count in range(5001)}
    assert all(count <= slots <= 5000 for count, slots in rounded.items())
    assert len(set(rounded.values())) == 10  # 16, 32, … 4096, and all


# Loss


def test_the_mean_loss_is_minus_the_sum_over_the_count(port: mlm_jax.JaxPort) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 4, 8)).astype(np.float32)
    labels = np.where(rng.random((2, 4)) < 0.5, rng.integers(8, size=(2, 4)), -100)
    selected = labels != -100
    result = port.score(logits, labels, selected)
    count = np.float32(result.count)
    seen = port.loss(logits, labels, -100, None)
    assert seen["loss"] == -result.sum / count
    bound = 3 * 2.0**-24 * np.abs(result.grad_logits / count) * (1 + 2.0**-10)
    assert (np.abs(seen["grad_logits"] + result.grad_logits / count) <= bound).all()
    assert port.loss_reduction == "mean"


def test_micro_batches_with_the_global_count_add_up(x64: None) -> None:
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(4, 2, 8)), rng.integers(8, size=(4, 2))
    whole, gradient = mlm_jax.loss(logits, labels)
    parts = [
        mlm_jax.loss(logits[i : i + 1], labels[i : i + 1], num_items=8, reduction="sum/num_items")
        for i in range(4)
    ]
    z, t = logits.reshape(8, 8), labels.reshape(8)
    how = arithmetic("float64")
    bounds = value_bound(z, t, how)
    values = mlm_spec.log_likelihood(z, t)
    limit = 2 * sum_bound(values, bounds, np.ones(8), how) / 8 + 10 * how.unit * abs(whole)
    assert abs(sum(part for part, _ in parts) - whole) <= limit
    np.testing.assert_array_equal(np.concatenate([g for _, g in parts]), gradient)


def test_a_loss_over_nothing_is_zero_or_an_error(port: mlm_jax.JaxPort) -> None:
    logits, labels = np.zeros((1, 2, 4), np.float32), np.full((1, 2), -100)
    with pytest.raises(EmptySelectionError):
        port.loss(logits, labels, -100, None)
    with pytest.raises(EmptySelectionError):
        mlm_jax.loss(logits, labels, reduction="sum/num_items")
    assert mlm_jax.loss(logits, labels, reduction="sum")[0] == 0.0
    assert mlm_jax.loss(logits, labels, num_items=7, reduction="sum/num_items")[0] == 0.0
    total, count = mlm_jax.loss_sum(logits, labels)
    assert (float(total), int(count)) == (0.0, 0)


# Steps


def score_arguments(**changes: Any) -> dict[str, Any]:
    arguments = {
        "logits": np.zeros((2, 4, 6), np.float32),
        "targets": np.ones((2, 4), np.int64),
        "selected": np.arange(8).reshape(2, 4) % 2 == 0,
        "weights": None,
    }
    for name, change in changes.items():
        if callable(change):
            change(arguments[name])
        else:
            arguments[name] = change
    return arguments


def head_arguments(**changes: Any) -> dict[str, Any]:
    rest = score_arguments()
    del rest["logits"]
    rng = np.random.default_rng(0)
    arguments = {
        "hidden": rng.normal(size=(2, 4, 3)).astype(np.float32),
        "weight": rng.normal(size=(6, 3)).astype(np.float32),
        "bias": np.ones(6, np.float32),
        **rest,
    }
    for name, change in changes.items():
        if callable(change):
            change(arguments[name])
        else:
            arguments[name] = change
    return arguments


def put(index: Any, value: float) -> Any:
    return lambda array: array.__setitem__(index, value)


NONE_SELECTED = {"selected": np.zeros((2, 4), bool)}
NAN_WEIGHTS = np.full((2, 4), np.nan, np.float32)
SCORE_STATUSES = [
    ({}, 4, Status.OK),
    ({}, 3, Status.OVERFLOW),
    ({"targets": put((1, 2), 6)}, 8, Status.ID_RANGE),
    ({"targets": put((1, 2), 2**32 + 1)}, 8, Status.ID_RANGE),
    ({"targets": put((1, 2), -1)}, 8, Status.ID_RANGE),
    ({"logits": put((0, 2, 3), np.nan)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 3), np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 1), np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2), -np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 1), -np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 3), -np.inf)}, 8, Status.OK),
    ({"weights": NAN_WEIGHTS}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 1), np.nan), "targets": put((0, 3), 99)}, 8, Status.OK),
    (NONE_SELECTED, 0, Status.EMPTY),
]


@pytest.mark.parametrize(("changes", "capacity", "status"), SCORE_STATUSES)
def test_a_score_step_reports_what_it_found_and_then_has_no_effect(
    port: mlm_jax.JaxPort, changes: dict[str, Any], capacity: int, status: Status
) -> None:
    step = port.score_step(**score_arguments(**changes), capacity=capacity)
    assert Status(step["status"]) == status
    effect = status == Status.OK
    assert bool(step["count"]) == effect
    assert bool(step["sum"]) == effect
    assert bool(step["grad_logits"].any()) == effect


HEAD_STATUSES = [
    ({}, 4, Status.OK),
    ({}, 3, Status.OVERFLOW),
    ({}, 0, Status.OVERFLOW),
    ({"targets": put((1, 2), 6)}, 8, Status.ID_RANGE),
    ({"hidden": put((0, 2, 1), np.nan)}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 2, 1), -np.inf)}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 2), 3e38), "weight": put(4, 9.0)}, 8, Status.NOT_FINITE),
    ({"weight": put((5, 0), -np.inf)}, 8, Status.NOT_FINITE),
    ({"bias": put(5, np.nan)}, 8, Status.NOT_FINITE),
    ({"bias": put(5, -np.inf)}, 8, Status.OK),
    ({"weights": NAN_WEIGHTS}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 1), np.nan)}, 8, Status.OK),
    (NONE_SELECTED, 0, Status.EMPTY),
]


@pytest.mark.parametrize(("changes", "capacity", "status"), HEAD_STATUSES)
def test_a_head_step_reports_what_it_found_and_then_has_no_effect(
    port: mlm_jax.JaxPort, changes: dict[str, Any], capacity: int, status: Status
) -> None:
    step = port.head_step(**head_arguments(**changes), capacity=capacity)
    assert Status(step["status"]) == status
    effect = status == Status.OK
    assert bool(step["count"]) == effect
    assert bool(step["sum"]) == effect
    for name in ("grad_hidden", "grad_weight", "grad_bias"):
        assert bool(step[name].any()) == effect


@pytest.mark.parametrize("capacity", [3, 4])
def test_a_compiled_head_step_with_a_static_capacity_does_the_same(capacity: int) -> None:
    arguments = head_arguments()
    arguments["targets"] = arguments["targets"].astype(np.int32)
    step = jitted_head_step(**arguments, capacity=capacity)
    assert int(step.status) == (Status.OK if capacity == 4 else Status.OVERFLOW)
    assert int(step.count) == (4 if capacity == 4 else 0)


@pytest.mark.parametrize("bad", [-1, 32, 2**32 + 9])
def test_a_mask_step_with_an_unknown_token_returns_the_tokens(
    port: mlm_jax.JaxPort, bad: int
) -> None:
    source = packed(3, 24, 32, seed=9)
    source[0][1, 7] = bad
    source[4][1, 7] = False
    step = port.mask_step(*source, policy(Bernoulli(1)), 1, 1)
    assert Status(step["status"]) == Status.ID_RANGE | Status.EMPTY
    assert not step["selected"].any()
    for name in ("inputs", "targets"):
        np.testing.assert_array_equal(step[name], source[0])
        assert step[name].dtype == np.int64


def test_a_token_beyond_int32_is_refused_by_the_checked_function() -> None:
    source = packed(3, 24, 32, seed=9)
    source[0][1, 7] = 2**32 + 9
    with pytest.raises(IdRangeError, match=r"tokens\[1, 7\] is 4294967305"):
        mlm_jax.mask(*source, policy(Bernoulli(1)), 1, 1)


def test_a_mask_step_that_selects_nothing_is_empty(port: mlm_jax.JaxPort) -> None:
    source = packed(3, 24, 32, seed=9)
    assert port.mask_step(*source, policy(Bernoulli(0)), 1, 1)["status"] == Status.EMPTY
    assert port.mask_step(*source, policy(Bernoulli(1)), 1, 1)["status"] == Status.OK


@pytest.mark.parametrize(
    ("status", "mean", "error"),
    [
        (Status.OVERFLOW | Status.EMPTY, False, CapacityError),
        (Status.ID_RANGE | Status.EMPTY, False, IdRangeError),
        (Status.NOT_FINITE, False, NotFiniteError),
        (Status.EMPTY, True, EmptySelectionError),
        (Status.EMPTY, False, None),
        (Status.OK, True, None),
    ],
)
def test_a_status_raises_its_error(
    port: mlm_jax.JaxPort, status: Status, mean: bool, error: type[Exception] | None
) -> None:
    if error is None:
        port.raise_for_status(int(status), mean=mean)
    else:
        with pytest.raises(error):
            port.raise_for_status(int(status), mean=mean)


# Errors


SCORE_ERRORS = [
    ({"targets": put((1, 2), 6)}, IdRangeError, "targets[1, 2]"),
    ({"targets": put((1, 2), 2**32 + 1)}, IdRangeError, "targets[1, 2]"),
    ({"logits": put((0, 2, 3), np.nan)}, NotFiniteError, "logits[0, 2, 3]"),
    ({"logits": put((0, 2, 3), np.inf)}, NotFiniteError, "logits[0, 2, 3]"),
    ({"logits": put((0, 2), -np.inf)}, NoSupportError, "logits[0, 2]"),
    ({"logits": put((0, 2, 1), -np.inf)}, ImpossibleTargetError, "logits[0, 2, 1]"),
    ({"weights": NAN_WEIGHTS}, NotFiniteError, "weights[0, 0]"),
    ({"weights": np.full((2, 4), 1e300)}, NotFiniteError, "the sum of the log-likelihoods"),
    ({"logits": np.zeros((2, 4), np.float32)}, ShapeError, "logits"),
    ({"logits": np.zeros((2, 4, 0), np.float32)}, ShapeError, "logits"),
    ({"targets": np.zeros((2, 3), np.int32)}, ShapeError, "targets"),
    ({"selected": np.zeros((4, 2), bool)}, ShapeError, "selected"),
    ({"weights": np.zeros((2, 4, 1), np.float32)}, ShapeError, "weights"),
    ({"logits": np.zeros((2, 4, 6), np.int32)}, DTypeError, "logits"),
    ({"logits": [[[0.0]]]}, DTypeError, "logits"),
    ({"targets": np.zeros((2, 4))}, DTypeError, "targets"),
    ({"selected": np.zeros((2, 4), np.int32)}, DTypeError, "selected"),
    ({"weights": np.zeros((2, 4), np.float16)}, DTypeError, "weights"),
]


@pytest.mark.parametrize(("changes", "error", "where"), SCORE_ERRORS)
def test_score_refuses_bad_input_and_says_where(
    port: mlm_jax.JaxPort, changes: dict[str, Any], error: type[MlmSpecError], where: str
) -> None:
    arguments = score_arguments(**changes)
    with pytest.raises(error) as caught:
        port.score(**arguments)
    assert caught.value.where == where
    assert str(caught.value) == f"{where} is {caught.value.got}; expected {caught.value.expected}"
    assert float(port.score(**score_arguments()).count) == 4


HEAD_LOGITS = "hidden @ weight.T + bias"
HEAD_ERRORS = [
    ({"targets": put((1, 2), 6)}, IdRangeError, "targets[1, 2]"),
    ({"hidden": put((0, 2, 1), np.nan)}, NotFiniteError, "hidden[0, 2, 1]"),
    ({"weight": put((5, 0), np.inf)}, NotFiniteError, "weight[5, 0]"),
    ({"bias": put(5, np.nan)}, NotFiniteError, f"{HEAD_LOGITS}[0, 0, 5]"),
    ({"bias": put(slice(None), -np.inf)}, NoSupportError, f"{HEAD_LOGITS}[0, 0]"),
    ({"bias": put(1, -np.inf)}, ImpossibleTargetError, f"{HEAD_LOGITS}[0, 0, 1]"),
    (
        {"hidden": put((0, 2), 3e38), "weight": put(4, 9.0)},
        NotFiniteError,
        f"{HEAD_LOGITS}[0, 2, 4]",
    ),
    ({"weights": NAN_WEIGHTS}, NotFiniteError, "weights[0, 0]"),
    ({"hidden": np.zeros((2, 4), np.float32)}, ShapeError, "hidden"),
    ({"weight": np.zeros((6, 4), np.float32)}, ShapeError, "weight"),
    ({"bias": np.zeros(5, np.float32)}, ShapeError, "bias"),
    ({"weight": np.zeros((6, 3), np.float16)}, DTypeError, "weight"),
    ({"bias": np.zeros(6)}, DTypeError, "bias"),
]


@pytest.mark.parametrize(("changes", "error", "where"), HEAD_ERRORS)
def test_head_refuses_bad_input_and_says_where(
    port: mlm_jax.JaxPort, changes: dict[str, Any], error: type[MlmSpecError], where: str
) -> None:
    with pytest.raises(error) as caught:
        port.head(**head_arguments(**changes))
    assert caught.value.where == where
    assert float(port.head(**head_arguments()).count) == 4


MASK_ERRORS = [
    (0, put((1, 7), 32), IdRangeError, "tokens[1, 7]"),
    (0, put((1, 7), 2**32 + 9), IdRangeError, "tokens[1, 7]"),
    (0, np.zeros((3, 24, 1), np.int32), ShapeError, "tokens"),
    (0, np.zeros((3, 24)), DTypeError, "tokens"),
    (1, np.zeros((3, 24), np.uint32), ShapeError, "sequence_id"),
    (1, np.zeros((3, 24, 2), np.uint64), DTypeError, "sequence_id"),
    (2, np.zeros((3, 24), np.int64), DTypeError, "position"),
    (3, np.zeros((3, 24), np.int64), DTypeError, "word_id"),
    (3, None, WordError, "word_id"),
    (4, np.zeros((3, 24), np.uint8), DTypeError, "eligible"),
    (5, {"selection": "none"}, PolicyError, "policy"),
    (6, -1, SeedError, "seed"),
    (6, 2**64, SeedError, "seed"),
    (7, 1.0, SeedError, "epoch"),
    (7, True, SeedError, "epoch"),
]


@pytest.mark.parametrize(("index", "change", "error", "where"), MASK_ERRORS)
def test_mask_refuses_bad_input_and_says_where(
    port: mlm_jax.JaxPort, index: int, change: Any, error: type[MlmSpecError], where: str
) -> None:
    arguments = [*packed(3, 24, 32, seed=1), policy(WholeWord("1/2")), 1, 2]
    if callable(change):
        change(arguments[index])
    else:
        arguments[index] = change
    with pytest.raises(error) as caught:
        port.mask(*arguments)
    assert caught.value.where == where


def test_a_word_unit_needs_words_and_other_policies_do_not(port: mlm_jax.JaxPort) -> None:
    tokens, sequence, position, _, eligible = packed(3, 24, 32, seed=1)
    arguments = (tokens, sequence, position, None, eligible)
    with pytest.raises(WordError):
        port.mask(*arguments, policy(Bernoulli("1/2"), unit="word"), 1, 2)
    rules = policy(Bernoulli("1/2"))
    assert_same_batch(port.mask(*arguments, rules, 1, 2), mlm_spec.mask(*arguments, rules, 1, 2))


def test_checked_functions_given_a_capacity_refuse_an_overflow() -> None:
    with pytest.raises(CapacityError, match="4 positions"):
        mlm_jax.score(**score_arguments(), capacity=3)
    with pytest.raises(CapacityError, match="4 positions"):
        mlm_jax.head(**head_arguments(), capacity=3)
    assert int(mlm_jax.head(**head_arguments(), capacity=4).count) == 4


def test_a_plan_for_other_columns_is_refused() -> None:
    source = packed(3, 24, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    plan = mlm_jax.make_plan(policy(Bernoulli("1/2")), 17)
    with pytest.raises(ShapeError, match="17 columns"):
        mlm_jax.mask_step(*source, plan, mlm_jax.key_words(0, 0))


# Types of 64 bits


def test_float64_without_x64_is_refused_not_rounded() -> None:
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.score(**score_arguments(logits=np.zeros((2, 4, 6))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.score(**score_arguments(weights=np.ones((2, 4))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.head(**head_arguments(hidden=np.zeros((2, 4, 3))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.log_likelihood_sum(
            np.zeros((1, 1, 2)), np.zeros((1, 1), np.int32), np.ones((1, 1), bool)
        )


def test_float64_with_x64_stays_float64(x64: None) -> None:
    logits = np.array([[[0.0, 1e-12]]])
    result = mlm_jax.score(logits, np.array([[1]]), np.array([[True]]))
    assert result.sum.dtype == result.grad_logits.dtype == np.float64
    bound = value_bound(logits[0], np.array([1]), arithmetic("float64"))[0]
    exact = float(mlm_spec.score(logits, np.array([[1]]), np.array([[True]])).sum)
    assert abs(float(result.sum) - exact) <= bound


def test_the_port_leaves_the_setting_of_x64_as_it_was(port: mlm_jax.JaxPort) -> None:
    port.score(**score_arguments(logits=np.zeros((2, 4, 6))))
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        source, rules = packed(3, 24, 32, seed=1), policy(LAWS["count"], unit="word")
        assert_same_batch(port.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))
        assert port.score(**score_arguments()).sum.dtype == np.float32
        assert jax.config.jax_enable_x64


def test_masks_are_the_same_with_x64_on(x64: None) -> None:
    for law, unit in UNITS:
        source, rules = packed(3, 24, 32, seed=1), policy(LAWS[law], unit=unit)
        batch = mlm_jax.mask(*source, rules, 1, 2)
        want = mlm_spec.mask(*source, rules, 1, 2)
        for seen, expected in zip(batch, want, strict=True):
            np.testing.assert_array_equal(seen, expected)


# Devices and programs


@pytest.mark.parametrize("device", ["cpu:99", "abacus", "cpu:x"])
def test_an_absent_device_is_an_error_and_never_a_fallback(device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        mlm_jax.JaxPort(device=device)


def test_cuda_is_there_or_refused() -> None:
    try:
        there = bool(jax.devices("cuda"))
    except RuntimeError:
        there = False
    if there:
        assert mlm_jax.JaxPort(device="cuda").versions["jax"] == jax.__version__
    else:
        with pytest.raises(DeviceError, match="cuda"):
            mlm_jax.JaxPort(device="cuda")


def test_many_policies_at_two_shapes_compile_two_programs(port: mlm_jax.JaxPort) -> None:
    policies = [
        policy(LAWS[law], weights, unit, pool=pool)
        for law, unit in UNITS
        for weights in ("1 0 0", "4/5 1/10 1/10")
        for pool in ("regular", (4, 7))
    ]
    before = len(compiled)
    for shape in ((5, 12), (3, 20)):
        for i, rules in enumerate(policies):
            port.mask(*packed(*shape, 32, seed=i), rules, seed=i, epoch=i)
    assert len(policies) > 60
    assert len(compiled) - before == 2


def test_scores_of_one_size_share_a_program_for_each_dtype(port: mlm_jax.JaxPort) -> None:
    before = len(compiled)
    for dtype in DTYPES.values():
        for shape in ((2, 8), (4, 4), (1, 13), (16, 1)):
            logits, targets = np.zeros((*shape, 37), dtype), np.zeros(shape, np.int64)
            selected = np.ones(shape, bool)
            port.score(logits, targets, selected)
            port.score(logits, targets, selected, np.ones(shape))
            port.score_step(logits, targets, selected, None, capacity=5)
            port.loss(logits, targets, -100, None)
    assert len(compiled) - before == len(DTYPES)


def test_heads_of_one_size_share_a_program(port: mlm_jax.JaxPort) -> None:
    before = len(compiled)
    weight, bias = np.ones((23, 6), np.float32), np.ones(23, np.float32)
    for shape in ((2, 8), (4, 4), (1, 11)):
        targets, hidden = np.zeros(shape, np.int64), np.ones((*shape, 6), np.float32)
        for count in (0, 1, 11):
            selected = (np.arange(targets.size) < count).reshape(shape)
            port.head(hidden, weight, bias, targets, selected)
            port.head(hidden, weight, None, targets, selected, np.ones(shape, np.float32))
            port.head_step(hidden, weight, bias, targets, selected, None, capacity=count)
    assert len(compiled) - before == 1


def test_a_new_rate_compiles_nothing_in_a_step_with_a_static_law() -> None:
    source = packed(2, 9, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    before = len(compiled)
    for rate in ("1/2", "1/3", "1"):
        jitted_mask_step(
            *source, mlm_jax.make_plan(policy(Bernoulli(rate)), 9), mlm_jax.key_words(1, 1)
        )
    assert len(compiled) - before == 1


def test_values_and_gradients_of_a_score_are_one_program() -> None:
    before = len(compiled)
    logits = np.zeros((3, 5, 7), np.float32)
    targets, selected = np.zeros((3, 5), np.int32), np.ones((3, 5), bool)
    jitted_score_step(logits, targets, selected)
    assert len(compiled) - before == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_every_step_can_be_lowered_for_an_accelerator(platform: str) -> None:
    """Without the device: that no operation is for the CPU alone."""
    source = packed(3, 24, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    plan = mlm_jax.make_plan(policy(LAWS["span"], unit="span"), 24, any_law=True)
    head = head_arguments(targets=np.zeros((2, 4), np.int32))
    score = score_arguments(targets=np.zeros((2, 4), np.int32))
    for traced in (
        jitted_mask_step.trace(*source, plan, mlm_jax.key_words(0, 0)),
        jitted_score_step.trace(**score),
        jitted_head_step.trace(**head, capacity=4),
    ):
        assert "stablehlo" in traced.lower(lowering_platforms=(platform,)).as_text()


# Structure


def test_the_backend_imports_only_types_errors_and_policies_of_the_specification() -> None:
    allowed = {"mlm_spec.batch", "mlm_spec.errors", "mlm_spec.policy"}
    seen = set()
    for file in Path(mlm_jax.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                seen.add(str(node.module))
            elif isinstance(node, ast.Import):
                seen.update(name.name for name in node.names)
    assert {name for name in seen if name.split(".")[0] == "mlm_spec"} == allowed
    assert not any(name.split(".")[0] in ("mlm_torch", "mlm_conformance", "torch") for name in seen)


def test_all_names_are_there() -> None:
    for name in mlm_jax.__all__:
        assert getattr(mlm_jax, name) is not None

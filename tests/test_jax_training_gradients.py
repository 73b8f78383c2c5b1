"""Gradients of training in JAX: against a dense formulation, and what they must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_training_cases import (
    ENCODER,
    POLICY,
    STILL,
    TRAINING,
    V,
    batch,
    bound,
    open_session,
    parameters,
    tokens,
)

import mlm_spec

Gradients = dict[str, np.ndarray]
SESSION = open_session()


def dense_objective(given: Any, held: dict[str, Any]) -> jax.Array:
    """Σ log Pr, row by row and sequence by sequence: no mask, no padding, all logits."""
    total = jnp.zeros((), jnp.float64)
    for row in range(len(held["inputs"])):
        cells = {n: x[row][held["attention_mask"][row]] for n, x in held.items()}
        names = [tuple(words) for words in cells["sequence_id"].tolist()]
        for name in sorted(set(names)):
            own = [i for i, other in enumerate(names) if other == name]
            total += dense_sequence(given, {n: x[own] for n, x in cells.items()})
    return total


def dense_sequence(given: Any, cells: dict[str, Any]) -> jax.Array:
    def norm(x: jax.Array, at: str) -> jax.Array:
        scaled = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * given[f"{at}.LayerNorm.weight"] + given[f"{at}.LayerNorm.bias"]

    def dense(x: jax.Array, at: str) -> jax.Array:
        return x @ given[f"{at}.weight"].T + given[f"{at}.bias"]

    def gelu(x: jax.Array) -> jax.Array:
        return x * (1 + jax.scipy.special.erf(x / jnp.sqrt(2.0))) / 2

    tables = "bert.embeddings"
    words = given[f"{tables}.word_embeddings.weight"]
    h = (
        words[cells["inputs"]]
        + given[f"{tables}.position_embeddings.weight"][cells["position_ids"]]
    )
    h = norm(h + given[f"{tables}.token_type_embeddings.weight"][cells["token_type_ids"]], tables)
    for number in range(ENCODER.num_hidden_layers):
        at, size = f"bert.encoder.layer.{number}", ENCODER.head_size
        q, k, v = (dense(h, f"{at}.attention.self.{n}") for n in ("query", "key", "value"))
        heads = []
        for head in range(ENCODER.num_attention_heads):
            part = slice(head * size, (head + 1) * size)
            weights = jax.nn.softmax(q[:, part] @ k[:, part].T / jnp.sqrt(1.0 * size), axis=-1)
            heads.append(weights @ v[:, part])
        mixed = dense(jnp.concatenate(heads, -1), f"{at}.attention.output.dense")
        a = norm(h + mixed, f"{at}.attention.output")
        h = norm(a + dense(gelu(dense(a, f"{at}.intermediate.dense")), f"{at}.output.dense"),
                 f"{at}.output")  # fmt: skip
    top = "cls.predictions"
    t = norm(gelu(dense(h, f"{top}.transform.dense")), f"{top}.transform")
    nats = jax.nn.log_softmax(t @ words.T + given[f"{top}.bias"], axis=-1)
    return jnp.sum(nats[np.arange(len(h)), cells["targets"]][np.flatnonzero(cells["selected"])])


def assert_near(seen: Gradients, want: Gradients) -> None:
    limit = bound(want)
    assert limit < max(float(np.abs(g).max()) for g in want.values())
    for name, wanted in want.items():
        off = float(np.abs(seen[name] - wanted).max())
        assert off <= limit, f"{name}: off by {off}, may be off by {limit}"


def packed() -> tuple[dict[str, Any], dict[str, Any]]:
    """Two sequences of five as two rows, and as one row in a mixed order of columns."""
    apart = batch(2, seed=3, real=5)
    order = np.array([0, 10, 1, 11, 14, 2, 3, 12, 13, 4])
    together = {n: x.reshape(-1, *x.shape[2:])[order][None] for n, x in apart.items()}
    return apart, together


def test_gradients_are_those_of_a_dense_formulation() -> None:
    session, held = open_session(STILL), batch(3, seed=1)
    with jax.enable_x64(True):
        given = {name: jnp.asarray(x) for name, x in parameters().items()}
        total, gradients = jax.value_and_grad(dense_objective)(given, held)
        want = {n: np.asarray(g) / -held["selected"].sum() for n, g in gradients.items()}
    seen = session.gradients([held])
    assert seen["count"] == held["selected"].sum() > 0
    assert abs(float(seen["sum"]) - float(total)) <= bound(want) * seen["count"]
    assert_near(seen["gradients"], want)
    without = float(session.evaluate([held])["sum"])  # nothing is dropped, there or here
    assert abs(without - float(total)) <= bound(want) * seen["count"]


def test_gradients_do_not_depend_on_micro_batches() -> None:
    """With dropout: the units that are dropped do not, either."""
    held = batch(4, seed=2)
    parts = [{n: x[rows] for n, x in held.items()} for rows in ([2], [3, 0, 1])]
    counts = [int(p["selected"].sum()) for p in parts]
    assert counts[0] != counts[1]
    whole, split = SESSION.gradients([held]), SESSION.gradients(parts)
    assert whole["count"] == split["count"] == sum(counts)
    assert_near(split["gradients"], whole["gradients"])


def test_a_packed_row_is_its_sequences() -> None:
    apart, together = packed()
    one, two = SESSION.gradients([together]), SESSION.gradients([apart])
    assert one["count"] == two["count"] > 0
    assert_near(one["gradients"], two["gradients"])
    with jax.enable_x64(True):
        given = {name: jnp.asarray(x) for name, x in parameters().items()}
        total = dense_objective(given, together)
    off = abs(float(SESSION.evaluate([together])["sum"]) - float(total))
    assert off <= bound(one["gradients"]) * one["count"]


def test_what_stands_at_padding_does_not_matter() -> None:
    held = batch(4, seed=4)
    away = ~held["attention_mask"]
    assert away.any()
    other = {n: x.copy() for n, x in held.items()}
    for name in ("inputs", "targets"):
        other[name][away] = (other[name][away] + 1) % V
    other["position_ids"][away] = 3
    other["token_type_ids"][away] ^= 1
    other["sequence_id"][away] = held["sequence_id"][:, :1].repeat(10, 1)[away]
    one, two = SESSION.gradients([held]), SESSION.gradients([other])
    for name, gradient in one["gradients"].items():
        np.testing.assert_array_equal(gradient, two["gradients"][name], err_msg=name)


def test_masking_inside_a_step_is_masking_before_it() -> None:
    source = tokens(4, seed=5)
    fields = (source[n] for n in ("tokens", "sequence_id", "position", "word_id", "eligible"))
    masked = mlm_spec.mask(*fields, POLICY, TRAINING.seed, source["epoch"])
    rest = {n: x for n, x in source.items() if n in batch(1, 0)}
    before = {**masked._asdict(), **rest}
    one, two = SESSION.gradients([source]), SESSION.gradients([before])
    assert one["count"] == two["count"] > 0
    for name, gradient in one["gradients"].items():
        np.testing.assert_array_equal(gradient, two["gradients"][name], err_msg=name)


def test_dropout_changes_with_the_update_and_the_seed() -> None:
    held, session = batch(3, seed=6), open_session()
    first = session.gradients([held])
    again = session.gradients([held])
    assert first["sum"] == again["sum"]
    assert open_session(seed=1).gradients([held])["sum"] != first["sum"]
    session.step([batch(3, seed=7)])
    moved = open_session(given=session.parameters())
    assert moved.gradients([held])["sum"] != session.gradients([held])["sum"]


def test_nothing_selected_is_zeros() -> None:
    held = batch(2, seed=8)
    held["selected"][:] = False
    seen = SESSION.gradients([held])
    assert (float(seen["sum"]), seen["count"]) == (0.0, 0)
    assert not any(g.any() for g in seen["gradients"].values())


@pytest.mark.parametrize("name", ["inputs", "targets", "token_type_ids", "position_ids"])
@pytest.mark.parametrize("value", [-1, 2**32 + 1])
def test_an_id_that_is_none_is_refused(name: str, value: int) -> None:
    held = batch(2, seed=9, real=10)
    held["selected"][:] = True
    held[name][1, 3] = value
    with pytest.raises(mlm_spec.IdRangeError, match=rf"{name}\[1, 3\] is {value}"):
        SESSION.gradients([held])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda held: held.pop("position"), "without 'position'"),
    "unknown": (lambda held: held.update(labels=1), "with 'labels'"),
    "padding": (
        lambda held: held["attention_mask"].__setitem__((0, 2), False),
        r"selected\[0, 2\]",
    ),
    "shape": (lambda held: held.update(targets=held["targets"][:, 1:]), "targets is of shape"),
    "both": (lambda held: held.update(tokens=held["inputs"]), "without 'eligible'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_batch_that_is_none_is_refused(change: str) -> None:
    held = batch(2, seed=9, real=10)
    held["selected"][:] = True
    CHANGES[change][0](held)
    with pytest.raises(mlm_spec.errors.InputError, match=CHANGES[change][1]):
        SESSION.step([held])

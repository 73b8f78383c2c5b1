"""Bounds are functions, and each of them holds where it is tightest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance.bounds import (
    ANY_ORDER,
    Accumulation,
    AccumulationError,
    Arithmetic,
    arithmetic,
    gamma,
    gradient_bound,
    head_bounds,
    value_bound,
)
from mlm_conformance.bounds.softmax import softmax
from mlm_conformance.check import Context, Unmeasurable, Violation
from mlm_conformance.outcomes import Outcome
from mlm_conformance.resolve import TargetError
from mlm_conformance.runner import run
from mlm_conformance.variants.sums import (
    compensated,
    in_lanes,
    one_by_one,
    pairwise,
    permuted,
    tree,
)

from mlm_spec import log_likelihood, logit_gradient

HERE = Path(__file__).parent
U32 = 2.0**-24


# --- classes


@pytest.mark.parametrize(
    "text", ["any", "tree", "pairwise 128", "lanes 16 in float64", "chunks 512", "exact in float16"]
)
def test_a_class_is_read_and_written_alike(text: str) -> None:
    assert str(Accumulation.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "lanes",
        "lanes 0",
        "lanes -4",
        "lanes 1.5",
        "tree 16",
        "any in",
        "in float64",
        "any in float8",
        "any in float64 in float64",
        "pairwise 8 8",
        "Tree",
    ],
)
def test_what_is_no_class_is_refused_and_says_what_is(text: str) -> None:
    with pytest.raises(AccumulationError, match="expected ORDER"):
        Accumulation.parse(text)


class Depth(int):
    """An operand that counts the additions it went through."""

    def __add__(self, other: object) -> Depth:
        if not isinstance(other, Depth):  # a lane that is filled up with zeros: nothing is rounded
            return self
        return Depth(max(int(self), int(other)) + 1)

    __radd__ = __add__


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 64, 100, 999, 1024])
@pytest.mark.parametrize(
    ("declared", "add"),
    [
        ("any", one_by_one),
        ("any", permuted("backwards")),
        ("tree", tree),
        ("pairwise 128", pairwise),
        ("lanes 16", in_lanes),
    ],
)
def test_no_term_passes_through_more_additions_than_its_class_says(
    declared: str, add: Callable[[Any], Any], n: int
) -> None:
    terms = np.array([[Depth(0)] * n], dtype=object)
    assert int(add(terms)[0]) <= Accumulation.parse(declared).depth(n, U32)


def test_a_class_never_costs_more_than_any_order() -> None:
    for text in ("tree", "pairwise 128", "lanes 16", "compensated", "exact"):
        for n in (1, 2, 3, 10, 1000):
            assert 0 <= Accumulation.parse(text).depth(n, U32) <= ANY_ORDER.depth(n, U32) == n - 1


@pytest.mark.parametrize(
    ("text", "n", "depth"),
    [
        ("tree", 1000, 10),
        ("pairwise 128", 30522, 142),
        ("lanes 16", 30522, 1912),
        ("chunks 512", 30522, 1231),
        ("compensated", 30522, 2 + 8 * 30522 * U32),
        ("exact", 30522, 1),
        ("any", 30522, 30521),
    ],
)
def test_the_depth_of_each_class_is_that_of_the_chapter(text: str, n: int, depth: float) -> None:
    assert Accumulation.parse(text).depth(n, U32) == depth


def test_compensated_sums_keep_their_bound_where_plain_ones_lose_all() -> None:
    terms = np.full((1, 30522), np.float32(2.0**-25))
    terms[0, 0] = 1.0
    true = float(terms.astype(np.float64).sum())
    depth = Accumulation.parse("compensated").depth(30522, U32)
    assert abs(float(compensated(terms)[0]) - true) <= depth * U32 * true
    assert abs(float(one_by_one(terms)[0]) - true) > 1e-4


# --- what a bound is made of


def row(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([values], np.float32)


def test_a_bound_grows_with_each_of_its_causes() -> None:
    z, t = row(*np.linspace(-5, 5, 64)), np.array([3])
    how = arithmetic("float32")

    def bound(**changes: Any) -> float:
        fields = {name: getattr(how, name) for name in Arithmetic.__slots__}
        return float(value_bound(z, t, Arithmetic(**{**fields, **changes}))[0])

    plain = bound()
    assert bound(order=Accumulation("tree")) < plain < bound(unit=2 * U32)
    assert bound(exp_ulps=8.0) > plain
    assert bound(log_ulps=8.0) > plain
    assert bound(exp_slope=1.17) > plain
    assert bound(output_unit=2.0**-8) > plain
    assert bound(tiny=1e-6) > plain


def test_the_growth_of_a_fast_exp_enters_by_the_mean_depth() -> None:
    z, t = row(0.0, -6.0, -6.0, -6.0), np.array([0])
    fields = arithmetic("float32")
    fast = Arithmetic(fields.unit, fields.tiny, exp_slope=1.17)
    soft = softmax(z.astype(np.float64))
    mean_depth = float((soft.p * soft.depth).sum())
    more = float(value_bound(z, t, fast)[0] - value_bound(z, t, fields)[0])
    assert round(more / (2 * 1.17 * U32 * mean_depth), 1) == 1.0


def test_output_rounding_counts_only_where_the_output_is_narrower() -> None:
    assert arithmetic("float32", "float32").output_unit == 0.0
    assert arithmetic("float64", "float32").output_unit == 2.0**-24
    assert arithmetic("float32", "bfloat16").output_unit == 2.0**-8
    declared = Accumulation.parse("any in float64")
    assert arithmetic("float32", "float32", declared).output_unit == 2.0**-24
    assert arithmetic("float32", "float32", declared).unit == 2.0**-53


def test_few_ids_that_count_make_a_sharp_bound_at_a_full_vocabulary() -> None:
    z = np.full((1, 30522), -60.0, np.float32)
    z[0, :8] = np.arange(8) / 8
    few = value_bound(z, np.array([3]), arithmetic("float32"))[0]
    many = value_bound(np.zeros((1, 30522), np.float32), np.array([3]), arithmetic("float32"))[0]
    assert few < 12 * 9 * U32 + 40 * U32
    assert many > 30521 * U32


@pytest.mark.parametrize("order", ["falling", "rising", "backwards"])
@pytest.mark.parametrize("gap", [5.0, 12.0, 17.4, 20.0, 40.0])
@pytest.mark.parametrize("live", [1, 3, 40])
def test_terms_too_small_to_count_are_within_the_bound_when_they_are_lost(
    order: str, gap: float, live: int
) -> None:
    """Sums in float32, whose error is all that is compared: θ must enter the bound."""
    z = np.full((1, 30522), -gap, np.float32)
    z[0, :live] = -np.arange(live) / 64
    terms = np.exp(z)
    true = np.log(terms.astype(np.float64).sum())
    seen = np.log(np.float64(permuted(order)(terms)[0]))
    limit = value_bound(z, np.array([0]), arithmetic("float32"))[0]
    assert abs(seen - true) <= limit


def test_lost_terms_alone_can_reach_a_good_part_of_the_bound() -> None:
    """Where the largest comes first, all the others are lost: the bound is not idle there."""
    z = np.full((1, 30522), -17.4, np.float32)
    z[0, 0] = 0.0
    lost = np.log1p(30521 * np.exp(-17.4))
    limit = value_bound(z, np.array([0]), arithmetic("float32"))[0]
    assert 0.5 * limit < lost <= limit


def running_maximum(z: Any, ulps: int) -> float:
    """log Σ exp z in float32, id by id relative to the largest so far, by an exp that is low."""

    def low_exp(x: np.float32) -> np.float32:
        value = np.exp(x, dtype=np.float32)
        return np.float32(value - ulps * np.spacing(value)) if x < 0 else value

    top, total = z[0], np.float32(1.0)
    for value in z[1:]:
        new = max(top, value)
        total = np.float32(np.float32(total * low_exp(top - new)) + low_exp(value - new))
        top = new
    return float(top) + float(np.log(np.float64(total)))


def test_rescaling_costs_more_than_an_addition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that rise by tiny steps, so that every addition comes with a rescaling."""
    z = np.full(30522, -300.0, np.float32)
    z[-400:] = np.arange(400) / 2.0**12
    wide = z.astype(np.float64)
    top = wide.max()
    error = abs(running_maximum(z, 3) - (top + np.log(np.exp(wide - top).sum())))

    def limit() -> float:
        """For the last id, whose logit is the largest: the error is that of log S."""
        return float(value_bound(z[None], np.array([30521]), arithmetic("float32"))[0])

    assert error <= limit()
    monkeypatch.setattr("mlm_conformance.bounds.softmax._RESCALED", 1)
    assert error > limit()


def test_a_head_of_a_declared_class_has_a_narrower_bound() -> None:
    rng = np.random.default_rng(0)
    hidden, weight = rng.normal(size=(3, 4)), rng.normal(size=(500, 4))
    ids, ones = np.array([1, 2, 3]), np.ones(3)
    gradient = logit_gradient(hidden @ weight.T, ids)
    common = (hidden, weight, None, ids, ones, gradient, "float32")
    any_order, a_tree = head_bounds(*common), head_bounds(*common, Accumulation("tree"))
    assert a_tree.sum < any_order.sum
    assert (a_tree.grad_hidden < any_order.grad_hidden).all()


# --- where there is no bound


@pytest.mark.parametrize(
    ("dtype", "last"), [("bfloat16", 256), ("float16", 2048), ("float32", 2**24)]
)
def test_sums_have_a_bound_up_to_the_length_that_the_chapter_names(dtype: str, last: int) -> None:
    how = arithmetic("float32", declared=Accumulation("any", dtype=dtype))
    assert np.isfinite(gamma(how.order.depth(last, how.unit), how.unit))
    assert np.isinf(gamma(how.order.depth(last + 1, how.unit), how.unit))


def test_an_infinite_bound_certifies_nothing() -> None:
    z, t = np.zeros((1, 1000)), np.array([0])
    how = arithmetic("float32", declared=Accumulation("any", dtype="bfloat16"))
    assert np.isinf(value_bound(z, t, how)).all()
    assert np.isinf(gradient_bound(z, logit_gradient(z, t), np.ones(1), how)).all()
    context = Context(None, None, frozenset(), None)  # type: ignore[arg-type]  # not called here
    with pytest.raises(Unmeasurable, match="nothing can be certified about x"):
        context.within("x", np.array([1.0]), np.array([1.0]), np.array([np.inf]))
    with pytest.raises(Violation):  # what is no number is wrong under any bound
        context.within("x", np.array([np.nan]), np.array([1.0]), np.array([np.inf]))


def test_the_bound_covers_the_reference_on_its_own_terms() -> None:
    z = np.random.default_rng(1).normal(size=(5, 64)) * 3
    ids = np.arange(5)
    limits = value_bound(z, ids, arithmetic("float64"))
    direct = z[np.arange(5), ids] - np.log(np.exp(z).sum(axis=-1))
    assert (np.abs(direct - log_likelihood(z, ids)) <= limits).all()


# --- what targets declare


def outcome(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, str]:
    monkeypatch.syspath_prepend(str(HERE))
    report = run(
        f"targets.declaring:{name}",
        profile="quick",
        only=["MLM-LIK-11"],
        in_process=True,
        failures=tmp_path,
    )
    assert report.accumulation == {"in_float64": "tree in float64"}.get(name, report.accumulation)
    return report.requirements[0].outcome, report.requirements[0].message


@pytest.mark.parametrize(
    ("name", "expected", "said"),
    [
        ("in_float64", Outcome.PASS, ""),
        ("undeclared", Outcome.NOT_CLAIMED, "declares no accumulation class"),
        ("in_bfloat16", Outcome.NOT_RUN, "nothing can be certified"),
    ],
)
def test_a_class_is_held_to_or_said_to_be_empty(
    name: str, expected: Outcome, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, message = outcome(name, tmp_path, monkeypatch)
    assert found is expected
    assert said in message


@pytest.mark.parametrize(("name", "got"), [("fast", "'fast'"), ("a_number", "'16'")])
def test_a_class_that_is_none_is_a_bad_target(
    name: str, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TargetError, match=f"its accumulation is {got}; expected ORDER"):
        outcome(name, tmp_path, monkeypatch)


def test_the_gradient_without_a_difference_has_four_roundings() -> None:
    """At the target w·O/(O + e_t), in float32 with a float64 weight: one more than 1 − p_t has."""
    rng, how = np.random.default_rng(0), arithmetic("float32", "float32")
    logits = (rng.normal(size=(100_000, 3)) * [1.0, 1.0, 0.1] - [8.0, 8.0, 0.0]).astype(np.float32)
    weights, targets = rng.uniform(0.125, 0.127, size=len(logits)), np.zeros(len(logits), np.int64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    others = powers[:, 1] + powers[:, 2]
    share = weights.astype(np.float32) / (others + powers[:, 0])
    true = weights[:, None] * logit_gradient(logits.astype(np.float64), targets)
    off = np.abs((others * share).astype(np.float64) - true[:, 0])
    limits = gradient_bound(logits, true, weights, how)[:, 0]
    assert (off <= limits).all()
    assert (off > limits - how.unit * np.abs(true[:, 0])).any()  # so it is with three

"""Tests of counts: exact, with the power they claim, and never against a right masker."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlm_conformance.cases.distributions import DrawRecipe
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.distributions.binomial import (
    at_least,
    at_most,
    p_value,
    power,
    region,
    smallest_deviation,
)
from mlm_conformance.distributions.judge import ALPHA, FAMILY_ERROR, MORE, Tally, fits
from mlm_conformance.distributions.proofs import proof
from mlm_conformance.mutants.correct import CORRECT, sample_with
from mlm_conformance.outcomes import Outcome
from mlm_conformance.reports import html_report
from mlm_conformance.results import RunReport, Sensitivity
from mlm_conformance.runner import run

TARGET = "mlm_conformance.mutants.correct:with_sum"
DISTRIBUTIONS = [f"MLM-DST-{n}" for n in range(1, 21)]  # the others are no statistics
RATE = Fraction(3, 20)


def by_hand(trials: int, p: Fraction) -> list[Fraction]:
    return [comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(trials + 1)]


def is_just_above(found: float, exact: Fraction) -> bool:
    """The upper end of a narrow enclosure: by no more than 2⁻³¹ of it, and two roundings."""
    return exact * (1 - Fraction(1, 2**52)) <= Fraction(found) <= exact * (1 + Fraction(1, 2**31))


@pytest.mark.parametrize("p", [Fraction(3, 20), Fraction(1, 2), Fraction(27, 28), Fraction(0)])
def test_tails_are_the_sums_of_their_terms(p: Fraction) -> None:
    terms = by_hand(25, p)
    for k in range(26):
        below, above = at_most(k, 25, p), at_least(k, 25, p)
        assert is_just_above(below, sum(terms[: k + 1], Fraction(0)))
        assert is_just_above(above, sum(terms[k:], Fraction(0)))
        assert p_value(k, 25, p) == min(1.0, 2 * min(below, above))


def test_a_tail_far_out_is_a_number_and_not_rounding() -> None:
    """2⁻¹⁰⁰⁰, where 1 less the other tail would be 0."""
    assert is_just_above(at_least(1000, 1000, Fraction(1, 2)), Fraction(1, 2**1000))
    assert at_most(-1, 5, RATE) == 0.0 == at_least(6, 5, RATE)


@pytest.mark.parametrize("found", [0.25 - 2.0**-40, 0.25 + 2.0**-30])
def test_a_tail_that_is_off_is_seen(found: float) -> None:
    assert not is_just_above(found, Fraction(1, 4))


def test_the_region_is_what_is_not_rejected() -> None:
    low, high = region(500, RATE, 1e-3)
    inside = [k for k in range(501) if p_value(k, 500, RATE) >= 1e-3]
    assert (low, high) == (inside[0], inside[-1])


def test_the_smallest_deviation_has_its_power_and_none_nearer_has() -> None:
    below, above = smallest_deviation(5000, RATE, 1e-3, 0.999)
    assert below is not None
    assert above is not None
    for other, nearer in ((below, below + 1e-5), (above, above - 1e-5)):
        assert power(5000, RATE, Fraction(other), 1e-3) >= 0.999
        assert power(5000, RATE, Fraction(nearer), 1e-3) < 0.999


def test_what_can_not_be_found_at_all_is_said() -> None:
    assert smallest_deviation(3, RATE, 1e-3, 0.999)[0] is None


def test_a_run_makes_no_more_tests_than_share_its_error() -> None:
    report = run(TARGET, profile="quick", only=DISTRIBUTIONS, in_process=True)
    assert {r.outcome for r in report.requirements} == {Outcome.PASS}
    made = sum(check.saw.get("tests", 0) for r in report.requirements for check in r.checks)
    # Rates, columns and rows, rows and ends, kinds, ids, neighbours, twins and calls, and those of
    # fixed counts; columns again, ends, pairs.
    expected = 3 + (64 + 64) + (4 + 3) + 6 + 2 * 28 + 3 + (2 + 1 + 3) + (64 + 2 * 3 + 3)
    # Words: kinds, rates by length and place, pairs, what is left of a word's kind, kinds and ids
    # of pieces, of samples and of calls.
    expected += 8 + 2 * (1 + 5 + 23) + 5 + 2 + 2 * 2 * 4 + 2 * 3
    # Kinds and ids of neighbours, samples and calls.
    expected += (2 * 2 + 2) * 6
    # Spans: columns and groups of them, runs in three places. Pairs of makers.
    expected += (64 + 4) + (64 + 5) + (64 + 12) + sum(3 * n + 1 for n in (4, 5, 12))
    expected += 18 + 27 + 108
    # Spans beside and over places that are no candidates; their kinds, ids, and masks again.
    expected += (4 + 3) + 6 + 2 * 2 + 1 + 1 + 1 + 3
    # From anywhere: rates by token and place, kinds, ids, pairs at every distance.
    expected += 26 + 31 + 52 + 21 + 2 * 47
    # Rows that are alike: of masks, kinds and ids, of epochs, workers and ranks.
    expected += 2 + 2 + 2 + 2 * 3
    # What is dealt out: positions, kinds, ids, words. Words of any names.
    expected += 11 + 21 + 13 + 8 + (32 + 8)
    # By other laws: kinds and ids of fixed counts, and of pieces of words.
    expected += (4 + 28 + 24 + 6) + (4 + 4 + 56 + 2 + 16 + 6)
    expected += 12 + 2 * 32  # a listed pool, and the whole vocabulary
    assert made == expected == 1423
    assert made * ALPHA <= FAMILY_ERROR
    again = RunReport.from_json(report.to_json())
    assert again == report
    page = html_report.render(report)
    assert "What the tests of counts can see" in page
    assert "131072" in page


def tallied(*counts: tuple[int, int]) -> Any:
    """Tallies of the first look, then of the second."""
    looks = iter(counts)
    return lambda inputs, labels: [Tally("heads", *next(looks), Fraction(1, 2))]


CASE = DrawRecipe("3/20", "1 0 0").build(0)


def judged(*counts: tuple[int, int]) -> list[int]:
    """How many masks were asked for."""
    asked: list[int] = []

    def draw(n: int) -> tuple[Any, Any]:
        asked.append(n)
        return np.zeros(0), np.zeros(0)

    fits(Context(None, None, frozenset(), None), CASE, draw, tallied(*counts))  # type: ignore[arg-type]
    return asked


def test_a_good_first_look_is_enough() -> None:
    assert judged((500, 1000)) == [CASE.n]


def test_a_bad_first_look_is_followed_by_a_longer_one_that_decides_alone() -> None:
    assert judged((400, 1000), (8000, 16000)) == [CASE.n, MORE * CASE.n]
    with pytest.raises(Violation, match=r"heads: 7000 of 16000 .*should be 1/2"):
        judged((400, 1000), (7000, 16000))


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_right_masker_is_never_rejected(seed: int) -> None:
    """Six seeds on all checks of the chapter; whatever the first look says."""
    report = run(TARGET, profile="quick", seed=seed, only=DISTRIBUTIONS, in_process=True)
    assert [r.message for r in report.requirements if r.outcome is not Outcome.PASS] == []


class NoSuchLaw(NotImplementedError):
    """A masker's own word for it."""


@pytest.mark.parametrize("error", [NotImplementedError, NoSuchLaw])
def test_a_law_that_a_masker_does_not_have_is_not_claimed(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sample(tokens: Any, eligible: Any, policy: Any, n: int) -> Any:
        if type(policy.selection).__name__ == "FixedCount":
            raise error("it has no option for a fixed count")
        return CORRECT["sum"].sample(tokens, eligible, policy, n)

    import sys

    monkeypatch.setitem(sys.modules, "one_law", SimpleNamespace(it=SimpleNamespace(sample=sample)))  # type: ignore[misc]
    only = ["MLM-DST-1", "MLM-DST-7"]
    report = run("one_law:it", profile="quick", only=only, in_process=True, failures=tmp_path)
    assert [r.outcome for r in report.requirements] == [Outcome.PASS, Outcome.NOT_CLAIMED]
    assert "no option for a fixed count" in report.requirements[1].message


def test_calls_of_the_correct_masker_differ_by_their_tokens() -> None:
    able = np.ones_like(CASE.tokens, dtype=bool)
    one, other = (
        CORRECT["sum"].sample(tokens, able, CASE.policy, 2)[1] != -100
        for tokens in (CASE.tokens, CASE.tokens[::-1].copy())
    )
    assert (one != other).any()
    same = [sample_with(5, CASE.tokens, able, CASE.policy, 2)[1] for _ in range(2)]
    assert (same[0] == same[1]).all()


def test_every_check_of_the_chapter_has_a_table_of_its_own() -> None:
    mine = [check for check in CHECKS if check.requirement in DISTRIBUTIONS]
    assert {check.port for check in mine} == {"sample", "sample_words", "sample_parallel"}
    assert all(isinstance(check.always, tuple) and check.always for check in mine)


def test_a_sensitivity_comes_back_from_plain_data() -> None:
    test = Sensitivity("heads", 10, "1/2", None, 0.99)
    assert Sensitivity.from_json(test.to_json()) == test


def test_a_failure_says_what_its_tests_can_see_as_a_pass_does(tmp_path: Path) -> None:
    wrong = "mlm_conformance.mutants.distributions_words:pieces_are_selected_one_by_one"
    found = run(
        wrong, profile="quick", only=["MLM-DST-8"], in_process=True, failures=tmp_path
    ).requirements[0]
    assert found.outcome is Outcome.FAIL
    failed = [check for check in found.checks if check.outcome is Outcome.FAIL]
    assert failed
    assert all(check.sensitivities for check in failed)


def test_a_proof_needs_one_occurrence() -> None:
    """Which 1000 trials at the reported probability show with probability 0.999."""
    test = proof("heads", 1000)
    assert (test.trials, test.probability, test.below) == (1000, "0", None)
    assert test.above is not None
    assert abs((1 - test.above) ** 1000 - 0.001) < 1e-12

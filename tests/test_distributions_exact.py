"""What chapter DST proves without statistics, and the exact numbers that its tests compare with."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance.cases.codec import decode_case, encode_case
from mlm_conformance.cases.distributions import (
    WORD_LENGTHS,
    ParallelDrawRecipe,
    WordDrawRecipe,
)
from mlm_conformance.check import Violation
from mlm_conformance.distributions.makers import PROOF, Maker, tallies
from mlm_conformance.distributions.spans import pattern_probability, rate, whole_runs, windows
from mlm_conformance.distributions.words import couples, words_of
from mlm_conformance.outcomes import Outcome
from mlm_conformance.replay import replay
from mlm_conformance.runner import run

from mlm_spec import Span

LAWS = [
    Span("1/3", ("1/2", "1/4", "1/4")),
    Span("1/10", ("0", "0", "1")),
    Span("1/4", ("1",)),
    Span("1/2", ("1/2", "0", "1/2")),
]
HALF = Fraction(1, 2)


def unions(law: Span, columns: int) -> dict[tuple[bool, ...], Fraction]:
    """Every union of spans of a short row with its probability: all starts and lengths in turn."""
    choices = [(0, 1 - law.start)]
    choices += [(m, law.start * p) for m, p in enumerate(law.lengths, 1)]
    found: dict[tuple[bool, ...], Fraction] = defaultdict(Fraction)
    for lengths in product(choices, repeat=columns):
        covered = [any(lengths[i][0] > j - i for i in range(j + 1)) for j in range(columns)]
        found[tuple(covered)] += prod(p for _, p in lengths)
    return found


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_patterns_of_spans_have_the_probabilities_that_counting_gives(law: Span) -> None:
    whole = unions(law, 6)
    assert sum(whole.values()) == 1
    for at, width in ((0, 6), (0, 3), (2, 4), (3, 2), (5, 1)):
        part: dict[tuple[bool, ...], Fraction] = defaultdict(Fraction)
        for covered, p in whole.items():
            part[covered[at : at + width]] += p
        for pattern in product((False, True), repeat=width):
            assert pattern_probability(law, pattern, at) == part[pattern]


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_rate_of_spans_is_that_of_the_policy_and_lower_at_first(law: Span) -> None:
    rates = [rate(law, at) for at in range(12)]
    assert rates == [law.rate_at(at) for at in range(12)]
    assert len(law.lengths) == 1 or rates[0] < rates[len(law.lengths) - 1]
    assert set(rates[len(law.lengths) - 1 :]) == {rates[-1]}


def test_windows_of_a_row_are_so_far_apart_that_no_span_reaches_two() -> None:
    starts = windows(64, 5, 4)
    assert starts == [4, 12, 20, 28, 36, 44, 52]
    for left, right in pairwise(starts):
        assert right - 3 > left + 4  # the first start that reaches ``right`` is behind the window


def runs_of(text: str) -> list[tuple[int, int]]:
    """First column of each whole run of x and the column behind it; ? is no candidate."""
    able = np.array([[c != "?" for c in text]])
    chosen = np.array([[[c == "x" for c in text]]])
    return [(a, b) for _, _, a, b in whole_runs(chosen, able).tolist()]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("..xx.x..", [(2, 4), (5, 6)]),
        ("xxx.....", [(0, 3)]),
        ("....xxxx", []),
        ("xxxxxxxx", []),
        (".x?.?x.x.", [(7, 8)]),
        ("........", []),
    ],
)
def test_a_run_is_whole_if_nothing_cuts_it(text: str, found: list[tuple[int, int]]) -> None:
    assert runs_of(text) == found


def test_words_are_the_candidates_with_one_id() -> None:
    case = WordDrawRecipe("1/2").build(0)
    words = words_of(case.word_id, case.eligible)
    assert len(words) == len(case.tokens) * len(WORD_LENGTHS)
    for row in (0, 63):
        own = [w for w in words if w.row == row]
        assert sorted(len(w.columns) for w in own) == sorted(WORD_LENGTHS)
        assert sorted(c for w in own for c in w.columns) == list(range(63))
    long = next(w for w in words if len(w.columns) == 7)
    able = case.eligible.copy()
    able[long.row, long.columns[0]] = False
    rest = words_of(case.word_id, able)
    (shorter,) = (w for w in rest if (w.row, w.id) == (long.row, long.id))
    assert shorter.columns == long.columns[1:]


def test_pairs_of_words_have_no_word_in_common() -> None:
    ids = np.tile(np.arange(7), (4, 1))
    words = words_of(ids, np.ones_like(ids, dtype=bool))
    found = {what: (left, right) for what, left, right in couples(words)}
    assert len(found) == 3
    for left, right in found.values():
        assert len(set(left) | set(right)) == 2 * len(left) > 0
    left, right = found["words two apart"]
    assert {words[b].place - words[a].place for a, b in zip(left, right, strict=True)} == {2}


def halves(candidates: int) -> Any:
    """Two equal masks of that size, each with half of it selected."""
    chosen = np.arange(candidates) % 2 == 0
    return np.broadcast_to(chosen, (2, 1, 1, candidates))


def test_two_equal_masks_are_proof_where_they_are_large() -> None:
    pair = [(Maker(0, 0, 0), Maker(1, 0, 0))]
    with pytest.raises(Violation, match=r"epoch 0, rank 0, worker 0 and epoch 1.*at all 500 cand"):
        list(tallies(halves(PROOF), pair, HALF))


def test_two_equal_masks_that_chance_can_give_are_only_counted() -> None:
    pair = [(Maker(0, 0, 0), Maker(1, 0, 0))]
    (tally,) = tallies(halves(20), pair, HALF)
    assert (tally.count, tally.trials, tally.probability) == (10, 20, HALF**2)
    (tally,) = tallies(halves(PROOF), pair, Fraction(1, 5))  # another rate has another probability
    assert tally.count == 250


@pytest.mark.parametrize(
    "recipe",
    [WordDrawRecipe("1/2", "1/2 0 1/2", "word"), ParallelDrawRecipe("1/2", "1 0 0")],
    ids=["words", "parallel"],
)
def test_the_new_cases_come_back_from_plain_data(recipe: Any) -> None:
    case = recipe.build(3)
    back = decode_case(encode_case(case))
    assert encode_case(back) == encode_case(case)
    assert str(back) == str(case)
    assert back.arguments().keys() == case.arguments().keys()


def test_copies_of_the_rows_make_a_larger_batch() -> None:
    case = replace(ParallelDrawRecipe("1/2", "1 0 0").build(0), n=3)
    assert case.arguments()["tokens"].shape == (192, 64)
    assert "B=192" in str(case)


@pytest.mark.parametrize(
    ("module", "mutant", "requirement", "said"),
    [
        ("words", "the_last_piece_of_a_long_word_is_left_out", "MLM-DST-8", "is selected in part"),
        ("spans", "a_budget_cuts_the_last_span", "MLM-DST-15", "neither their neighbours"),
        (
            "parallel",
            "all_ranks_mask_alike",
            "MLM-DST-19",
            "rows of ranks 0 and 3 agree in 64 of 64",
        ),
    ],
)
def test_a_failure_is_made_small_kept_and_replayed(
    module: str, mutant: str, requirement: str, said: str, tmp_path: Path
) -> None:
    target = f"mlm_conformance.mutants.distributions_{module}:{mutant}"
    report = run(target, profile="quick", only=[requirement], in_process=True, failures=tmp_path)
    (found,) = report.requirements
    assert found.outcome is Outcome.FAIL
    assert said in found.message
    replayed = [replay(path, in_process=True) for path in tmp_path.glob("*.json")]
    assert {status for status, _ in replayed} == {1}
    assert any(said in text for _, text in replayed)

"""`mlm-spec identify` names the right dialect, and no wrong masker passes for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from mlm_conformance import cli
from mlm_conformance.answer import Answer
from mlm_conformance.dialects import page, simulated
from mlm_conformance.dialects.command import FORMAT, answer
from mlm_conformance.dialects.decide import Identification, identify
from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features import FEATURES
from mlm_conformance.dialects.features.counts import COUNTS, distinct
from mlm_conformance.dialects.features.feature import SELDOM
from mlm_conformance.dialects.probes import (
    CLS,
    MASK,
    PAD,
    POLICY,
    PROBES,
    SEP,
    SPECIAL,
    UNK,
    Drawn,
    observe,
)
from mlm_conformance.dialects.simulated import Masker, expected, hf_collator
from mlm_conformance.distributions.binomial import p_value
from mlm_conformance.distributions.judge import TESTS
from mlm_conformance.field.dialects import DIALECTS
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.resolve import TargetError

NAMES = [dialect.name for dialect in DIALECTS]
SIMULATED = "mlm_conformance.dialects.simulated"
RECORD = json.loads((ROOT / "benchmarks" / "results" / "identify.json").read_text("utf-8"))


class WithoutWords:
    """A masker that knows nothing of words."""

    def __init__(self, masker: Any) -> None:
        self.sample = masker.sample


def identified(masker: Any, seed: int = 0) -> Identification:
    seen, remarks = observe(InProcessTarget(masker), seed)
    return identify(seen, DIALECTS, remarks)


def simulation(name: str) -> Masker:
    found = getattr(simulated, name.replace("-", "_"))
    assert isinstance(found, Masker)
    return found


def against(found: Identification, name: str) -> set[str]:
    """The features that exclude a dialect."""
    return {f for v in found.verdicts if v.dialect.name == name for f in v.against}


# The confusion matrix ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_simulated_dialect_is_told_from_every_other(name: str) -> None:
    found = identified(simulation(name))
    assert set(found.fitting) == set(expected(name))
    assert found.tests <= TESTS  # the family-wise error is shared by so many


def test_what_is_expected_is_what_the_descriptions_say() -> None:
    """Two dialects are found together only where no known feature parts them, and then always."""
    pairs = {frozenset(d.name for d in pair) for pair in page.alike(DIALECTS)}
    found = {frozenset((n, other)) for n in NAMES for other in expected(n) if other != n}
    assert found == pairs
    assert all(name in expected(name) for name in NAMES)


def test_without_words_the_dialects_that_differ_in_them_alone_are_left() -> None:
    found = identified(WithoutWords(simulated.google_bert_words))
    assert found.fitting == ("google-bert", "google-bert-words")
    assert found.findings["words"].missing == "the target has no sample_words"
    assert "words is pieces or whole (not observed: the target has no" in found.apart()[0]


def test_the_repetition_over_seeds_had_no_wrong_answer() -> None:
    runs = RECORD["simulated"]["runs"]
    pairs = [(run["seed"], run["dialect"]) for run in runs]
    assert pairs == list(product(range(RECORD["simulated"]["seeds"]), NAMES))
    assert [run for run in runs if run["fitting"] != run["expected"]] == []
    assert (RECORD["simulated"]["number"], RECORD["simulated"]["wrong"]) == (len(runs), 0)
    assert all(run["expected"] == list(expected(run["dialect"])) for run in runs)


# Wrong maskers: each feature has one that it alone is there to see -------------------------------


def one_at_least(tokens: Any, words: Any, able: Any, random: Any) -> Any:
    """Bernoulli, and where nothing is selected the first that may be."""
    chosen = simulated.bernoulli(tokens, words, able, random)
    empty = ~chosen.any(axis=1)
    chosen[empty, able[empty].argmax(axis=1)] |= able[empty].any(axis=1)
    return chosen


def in_twos(tokens: Any, words: Any, able: Any, random: Any) -> Any:
    """One decision for a token and the one after it, every rate as before."""
    draws = random.random(tokens.shape)
    draws[:, 1::2] = draws[:, 0 : tokens.shape[1] - 1 : 2]
    return able & (draws < simulated.P)


BUT_LARGE = 3


def but_large_words(tokens: Any, words: Any, able: Any, random: Any) -> Any:
    """Whole words by a rate, except those of three pieces."""
    chosen = simulated.bernoulli_words(tokens, words, able, random)
    size = (words[:, :, None] == words[:, None, :]).sum(axis=2)
    return chosen & (size < BUT_LARGE)


def without(*ids: int) -> tuple[int, ...]:
    return tuple(i for i in SPECIAL if i not in ids)


WRONG: dict[str, tuple[str, Masker]] = {
    "count": (
        "hf-collator",
        replace(hf_collator, select=simulated.fixed(simulated.rounded)),
    ),
    "none": ("hf-collator", replace(hf_collator, select=one_at_least)),
    "cls": ("hf-collator", replace(hf_collator, never=without(CLS))),
    "sep": ("hf-collator", replace(hf_collator, never=without(SEP))),
    "unk": ("hf-collator", replace(hf_collator, never=without(UNK))),
    "mask": ("hf-collator", replace(hf_collator, never=without(MASK))),
    "pad": ("hf-collator", replace(hf_collator, never=without(PAD))),
    "unselected": ("hf-collator", replace(hf_collator, spoils="any")),
    "unselected pad": ("hf-collator", replace(hf_collator, spoils="padding")),
    "weights": ("hf-collator", replace(hf_collator, weights=(0.8, 0.05, 0.15))),
    "pool": ("hf-collator", replace(hf_collator, pool=tuple(range(1, MASK + 1)))),
    "neighbours": ("hf-collator", replace(hf_collator, select=in_twos)),
    "words": ("hf-collator", replace(hf_collator, select=simulated.bernoulli_words)),
    "word kinds": ("hf-collator", replace(hf_collator, unit=simulated.by_word)),
    "large word": (
        "hf-collator-words",
        replace(simulated.hf_collator_words, select=but_large_words),
    ),
}


def test_every_feature_has_a_wrong_masker() -> None:
    assert list(WRONG) == list(FEATURES)


@pytest.mark.parametrize("feature", list(WRONG))
def test_a_masker_that_is_wrong_in_one_feature_is_not_taken_for_right(feature: str) -> None:
    name, masker = WRONG[feature]
    assert feature in against(identified(masker), name)


@pytest.mark.parametrize(
    "select",
    [
        simulated.fixed(simulated.ceiling_of_words),
        simulated.fixed(simulated.ceiling_of_all),
        simulated.fixed(simulated.by_chance),
        simulated.fixed(lambda length, words, random: max(1, int(length * simulated.P + 0.5))),
        simulated.fixed(lambda length, words, random: int(length * simulated.P)),
        simulated.row_by_row(simulated.replaced),
        simulated.row_by_row(simulated.n_grams),
        simulated.row_by_row(simulated.spans),
    ],
)
def test_another_count_or_another_choice_is_not_google_berts(select: Any) -> None:
    found = identified(replace(simulated.google_bert, select=select))
    assert "google-bert" not in found.fitting


def test_half_up_and_half_even_part_at_a_row_of_thirty() -> None:
    """A single occurrence is proof."""
    half_up = simulated.fixed(lambda length, words, random: max(1, int(length * 0.15 + 0.5)))
    found = identified(replace(simulated.google_bert, select=half_up))
    assert found.findings["count"].possible == ("round half up",)
    proof = found.findings["count"].worst["round"]
    assert proof.p_value == 0.0
    assert "rows of 30 tokens" in proof.what


def test_a_masker_that_nobody_described_is_nobody() -> None:
    found = identified(replace(hf_collator, weights=(0.5, 0.5, 0.0)))
    assert found.fitting == ()
    assert found.findings["weights"].state == "unknown"
    assert "none of the 20 that are described. Nearest: hf-collator" in answer(found, "x")


def nothing(tokens: Any, words: Any, able: Any, random: Any) -> Any:
    """No token of any row."""
    return np.zeros_like(able)


def test_a_masker_that_selects_nothing_keeps_no_budget() -> None:
    found = identified(replace(simulated.megatron, select=nothing))
    assert "count" in against(found, "megatron")


def test_where_every_word_shows_mask_nothing_is_said_of_what_its_pieces_share() -> None:
    always = replace(simulated.fairseq_words, weights=(1.0, 0.0, 0.0))
    for unit in (simulated.by_word, simulated.by_piece):
        kinds = identified(replace(always, unit=unit)).findings["word kinds"]
        assert (kinds.state, kinds.possible) == ("undecided", ("word", "piece"))


@pytest.mark.parametrize(
    ("unit", "found"), [(simulated.by_word, "word"), (simulated.by_piece, "piece")]
)
def test_words_of_any_weights_are_of_one_kind_or_of_many(unit: Any, found: str) -> None:
    for weights in ((0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.85, 0.0, 0.15)):
        masker = replace(simulated.fairseq_words, unit=unit, weights=weights)
        assert identified(masker).findings["word kinds"].possible == (found,)


class Repeating:
    """A masker that makes one mask in each call, as often as it is asked for."""

    def __init__(self, masker: Masker) -> None:
        self.masker = masker

    def sample(self, tokens: Any, eligible: Any, policy: Any, n: int) -> Any:
        return tuple(np.repeat(a, n, 0) for a in self.masker.sample(tokens, eligible, policy, 1))


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_a_call_that_are_equal_exclude_nothing_by_that(name: str) -> None:
    found = identified(Repeating(simulation(name)))
    assert "The masks of one call are equal: one of them counts." in found.remarks
    assert set(expected(name)) <= set(found.fitting)
    assert len(found.fitting) < len(NAMES)


def test_masks_of_a_call_that_differ_are_not_said_to_be_equal() -> None:
    assert not any("are equal" in remark for remark in identified(hf_collator).remarks)


# Statistics -------------------------------------------------------------------------------------


def test_an_interval_rejects_no_more_than_its_nearest_end() -> None:
    low, high = Fraction(1, 4), Fraction(1, 2)
    for count in range(41):
        mine = Event("x", count, 40, low, high).p_value
        inside = [p_value(count, 40, low + (high - low) * Fraction(i, 16)) for i in range(17)]
        assert mine >= max(inside)
    assert Event("x", 40, 40, low, high).p_value == p_value(40, 40, high)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Event("x", 1, 9, Fraction(0), Fraction(0)), "x: 1 of 9, which cannot happen"),
        (Event("x", 0, 9, Fraction(0), Fraction(0)), "x: 0 of 9, as it must be"),
        (Event("x", 3, 9, Fraction(1), Fraction(1)), "x: 3 of 9, which must be all"),
        (
            Event("x", 0, 1, Fraction(1, 2), Fraction(1, 2)),
            "x: 0 of 1, with probability 0.5: p-value 1.0e+00",
        ),
        (
            Event("x", 0, 9999, Fraction(1, 4), Fraction(1, 2)),
            "x: 0 of 9999, with a probability of 0.25 to 0.5: p-value below 1e-300",
        ),
    ],
)
def test_an_event_says_what_was_seen_and_what_was_to_be_expected(event: Event, told: str) -> None:
    assert str(event) == told


def test_the_number_of_different_things_is_that_of_all_drawings() -> None:
    for draws, things in ((1, 1), (2, 3), (3, 4), (4, 2)):
        every = [len(set(d)) for d in product(range(things), repeat=draws)]
        share = {k: Fraction(every.count(k), len(every)) for k in sorted(set(every))}
        assert distinct(draws, things) == share


@pytest.mark.parametrize("name", list(COUNTS))
def test_the_probabilities_of_all_counts_sum_to_one(name: str) -> None:
    drawn = {
        f"bracketed {n}": Drawn(
            "c" + "w" * (n - 2) + "s",
            *(np.zeros((1, n), np.int64), np.zeros((1, n), np.int64), np.zeros((1, n), np.bool_)),
        )
        for n in (3, 10, 30)
    }
    for one in drawn.values():
        events = COUNTS[name].events({"row": one})
        total = sum((event.low for event in events), Fraction(0))
        assert total == (SELDOM if name == "budget" else 1)


# Descriptions -----------------------------------------------------------------------------------


def test_a_description_speaks_of_known_features_and_names_its_source() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for dialect in DIALECTS:
        assert dialect.url.startswith("https://")
        assert all(value in FEATURES[name].values for name, value in dialect.facts.items())
        assert "count" in dialect.facts


def test_a_feature_of_which_nothing_is_known_excludes_nothing() -> None:
    silent = [replace(dialect, facts={}) for dialect in DIALECTS]
    seen, _ = observe(InProcessTarget(hf_collator), 0)
    assert identify(seen, silent).fitting == tuple(NAMES)


def test_the_page_is_that_of_the_descriptions_and_the_record() -> None:
    assert page.markdown(DIALECTS, RECORD) == (ROOT / "docs" / "dialects.md").read_text("utf-8")


def test_the_real_maskers_are_what_they_are_described_as() -> None:
    for run in RECORD["real"]:
        assert run["expected"] in run["fitting"], run["target"]
        assert set(run["fitting"]) <= set(expected(run["expected"]))


def test_the_page_says_of_each_real_masker_what_was_not_observed() -> None:
    told = page.markdown(DIALECTS, RECORD).partition("Not observed:")[2].partition("Where")[0]
    for run in RECORD["real"]:
        missing = {name: f["missing"] for name, f in run["features"].items() if f["missing"]}
        short = run["target"].rpartition(".")[2]
        lines = [line for line in told.splitlines() if f"`{short}`" in line]
        assert len(lines) == len(set(missing.values()))
        for name, why in missing.items():
            assert any(f"`{name}`" in line and why in line for line in lines)


# The command ------------------------------------------------------------------------------------


def refusing(
    refused: Callable[[Any], bool], error: type[Exception] = NotImplementedError
) -> WithoutWords:
    """A Hugging Face collator that refuses some rows."""
    target = WithoutWords(hf_collator)

    def sample(tokens: Any, eligible: Any, policy: Any, n: int) -> Any:
        if refused(tokens):
            raise error("not these")
        return hf_collator.sample(tokens, eligible, policy, n)

    target.sample = sample
    return target


def test_rows_that_a_target_refuses_are_not_observed_and_exclude_nothing() -> None:
    found = identified(refusing(lambda tokens: (tokens == MASK).any()))
    assert found.findings["mask"].missing == "it raised NotImplementedError: not these"
    assert found.fitting == ("hf-collator", "keras-hub-python")
    some = identified(refusing(lambda tokens: tokens.shape[1] < 3))
    assert some.findings["count"].possible == ("bernoulli",)


def test_a_target_that_answers_nothing_is_of_no_use() -> None:
    with pytest.raises(TargetError, match="no masks of plain rows: it raised ValueError: not th"):
        observe(InProcessTarget(refusing(lambda tokens: True, ValueError)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda inputs, labels: (inputs[0], labels), r"inputs is int64 \(24, 9\); expected"),
        (lambda inputs, labels: (inputs, labels * 1.0), "labels is float64"),
        (lambda inputs, labels: (inputs, np.where(labels > 0, 5, labels)), "is 5; expected -100"),
    ],
)
def test_an_answer_that_is_no_mask_is_said(spoil: Any, said: str) -> None:
    target = WithoutWords(hf_collator)
    target.sample = lambda **call: spoil(*hf_collator.sample(**call))
    with pytest.raises(TargetError, match=said):
        observe(InProcessTarget(target))


def test_the_command_answers_on_the_terminal_and_as_json(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    call = ["identify", f"{SIMULATED}:electra", "--in-process", "--json", str(path), "--seed", "3"]
    assert cli.main(call) == 0
    said = capsys.readouterr().out
    assert "electra behaves like electra; the other 19 are excluded." in said
    assert "An equal call gives the same masks." in said
    record = json.loads(path.read_text("utf-8"))
    assert (record["format"], record["fitting"], record["seed"]) == (FORMAT, ["electra"], 3)
    assert record["asked"] == POLICY.to_mapping()
    bert = record["dialects"]["google-bert"]
    assert bert["verdict"] == "excluded"
    assert bert["against"]["weights"]["p_value"] < record["alpha"]


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("mlm_conformance.mutants.correct:with_sum", 1, "like none of the 20"),
        ("numpy", 2, "identify needs the port sample or sample_words; the target has mask"),
        ("nowhere:it", 2, "there is no module 'nowhere'"),
        ("needs_a_framework:it", 3, "NOT RUN: the target needs_a_framework:it needs nobodys"),
    ],
)
def test_the_exit_status_says_what_came_of_it(
    target: str,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "needs_a_framework.py").write_text("import nobodys_framework\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["identify", target, "--in-process"]) == status
    told = capsys.readouterr()
    assert said in told.out + told.err


def test_a_target_is_made_on_the_device_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made.py").write_text(
        "from mlm_conformance.dialects.simulated import electra\n"
        "from mlm_spec.errors import DeviceError\n"
        "def it(device):\n"
        "    if device == 'gpu':\n"
        "        return electra\n"
        "    raise DeviceError('device', device, 'gpu')\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "a.json"
    call = ["identify", "made:it", "--in-process", "--json", str(file), "--device"]
    assert cli.main([*call, "gpu"]) == 0
    assert json.loads(file.read_text("utf-8"))["device"] == "gpu"
    assert cli.main([*call, "npu"]) == 3
    assert "NOT RUN: device is npu; expected gpu" in capsys.readouterr().err


class Hangs:
    """Gives no answer in time; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def hello(self) -> Any:
        return InProcessTarget(simulated.hf_collator).hello()

    def call(self, port: str, **arguments: Any) -> Answer:
        self.asked += 1
        return Answer("timed_out", text="gave no answer within 3 s")


def test_a_masker_that_hangs_is_asked_once() -> None:
    target = Hangs()
    with pytest.raises(TargetError, match="sample gave no answer within 3 s, and is asked no more"):
        observe(target, 0)  # type: ignore[arg-type]
    assert target.asked == 1


def test_shares_and_margins_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = identified(simulated.hf_collator)
    assert found.shares[0].startswith("Of 86016 ordinary tokens ")
    share = float(found.shares[0].partition("(")[2].rstrip(".)"))
    assert abs(share - 0.15) < 0.01
    assert found.shares[1].startswith("These show MASK, another id, their own: 0.8")
    name, event = found.findings["count"].next_best or pytest.fail("no margin")
    assert name in found.findings["count"].rejected
    assert event == found.findings["count"].worst[name]
    others = [found.findings["count"].worst[n].p_value for n in found.findings["count"].rejected]
    assert event.p_value == max(others)


def test_bad_calls_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"{SIMULATED}:electra"
    assert cli.main(["identify", target, "--json", "no/folder/a.json"]) == 2
    assert cli.main(["identify", target, "--in-process", "--time-limit", "3"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_probe_is_what_its_pattern_says() -> None:
    for name, probe in PROBES.items():
        tokens = probe.tokens(0, 1)
        assert tokens.shape == (probe.rows, len(probe.pattern)), name
        for kind, i in (("c", CLS), ("s", SEP), ("p", PAD), ("u", UNK), ("m", MASK)):
            assert ((tokens == i) == [k == kind for k in probe.pattern]).all()
        assert all((tokens[:, j] % 2 == 1).all() for j, k in enumerate(probe.pattern) if k == "-")
        assert (probe.word_id[:, 0] == 0).all()
        assert (probe.tokens(0, 1) == tokens).all()
        assert len(probe.pattern) < 8 or (probe.tokens(1, 1) != tokens).any()

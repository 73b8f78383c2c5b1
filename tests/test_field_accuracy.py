"""The accuracy league of the field, without any of its packages but NumPy."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlm_conformance.field.accuracy import forms_numpy, league, truth
from mlm_conformance.field.accuracy.defects import DEFECTS
from mlm_conformance.field.accuracy.entrants import ENTRANTS
from mlm_conformance.field.accuracy.families import FAMILIES, batches
from mlm_conformance.field.accuracy.form import Form
from mlm_conformance.field.accuracy.formats import FORMATS, Format, rounded, ulp
from mlm_conformance.field.accuracy.league import run_league
from mlm_conformance.field.accuracy.results import Entry, League
from mlm_conformance.field.accuracy.section import print_league, section
from mlm_conformance.field.accuracy.statistics import Miss, miss, score
from mlm_conformance.field.accuracy.truth import Truth, TruthError, truth_of
from mlm_conformance.field.registry import Peer
from mlm_conformance.field.results import FieldReport
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.resolve import FrameworkMissing, TargetError
from mlm_conformance.wire import DTYPES
from numpy.typing import NDArray
from rich.console import Console

from mlm_spec import Enclosure, UndecidedError

ROOM = Path(league.__file__).parent
ROWS = {2: 4, 30: 3}
OWN = {"json": "the standard library"}  # a package that is always there
HALF = FORMATS["float16"]
DTYPES_16 = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def _all_finite(name: str) -> list[Fraction]:
    """Every finite number of a format of 16 bits, ascending, 0 once."""
    with np.errstate(invalid="ignore"):  # the signalling NaNs
        values = np.arange(2**16, dtype=np.uint16).view(DTYPES_16[name]).astype(np.float64)
    return sorted({Fraction(v) for v in values[np.isfinite(values)].tolist()})


ALL = {name: _all_finite(name) for name in DTYPES_16}


def _by_search(x: Fraction, name: str) -> float:
    """The nearest number by distance to all of them; ties to the even significand."""
    numbers, form = ALL[name], FORMATS[name]
    overflow = numbers[-1] + ulp(numbers[-1], form) / 2
    if abs(x) >= overflow:
        return math.copysign(math.inf, x)
    i = bisect_left(numbers, x)
    near = numbers[max(i - 1, 0) : i + 1]

    def distance(y: Fraction) -> tuple[Fraction, int]:
        return abs(x - y), int(abs(y) / ulp(y, form)) % 2

    return float(min(near, key=distance))


def _exact(x: Fraction) -> Enclosure:
    return Enclosure(x, x)


def _near(name: str) -> st.SearchStrategy[Fraction]:
    """Numbers of a format, the middles between two, and a little to the side of both."""
    count = len(ALL[name]) - 1
    return st.builds(
        lambda i, part, slip: (
            ALL[name][i] + (ALL[name][i + 1] - ALL[name][i]) * Fraction(part, 4) + slip
        ),
        st.integers(0, count - 1),
        st.integers(0, 3),
        st.sampled_from([Fraction(0), Fraction(1, 2**200), Fraction(-1, 2**200)]),
    )


@pytest.mark.parametrize("name", DTYPES_16)
def test_rounding_gives_the_number_that_is_nearest_of_all(name: str) -> None:
    @given(x=_near(name))
    def check(x: Fraction) -> None:
        assert rounded(_exact(x), FORMATS[name]) == _by_search(x, name)

    check()


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_a_float64_is_the_conversion_of_numpy(value: float) -> None:
    number = _exact(Fraction(value))
    assert rounded(number, FORMATS["float64"]) == value
    with np.errstate(over="ignore"):
        assert rounded(number, FORMATS["float32"]) == float(np.float32(value))
        assert rounded(number, HALF) == float(np.float16(value))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_beside_a_tie_is_not_rounded_twice(form: Format, sign: int) -> None:
    tie = 1 + Fraction(1, 2**form.bits)  # between 1, which is even, and its neighbour
    neighbour = float(1 + Fraction(1, 2 ** (form.bits - 1)))
    slip = Fraction(1, 2**300)
    assert rounded(_exact(sign * tie), form) == sign
    assert rounded(_exact(sign * (tie + slip)), form) == sign * neighbour
    assert rounded(_exact(sign * (tie - slip)), form) == sign


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_an_end_of_an_enclosure_that_is_a_tie_is_rounded_to_the_inside(form: Format) -> None:
    tie, slip = 1 + Fraction(1, 2**form.bits), Fraction(1, 2**300)
    assert rounded(Enclosure(tie - slip, tie), form) == 1
    assert rounded(Enclosure(tie, tie + slip), form) > 1


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_ends_of_a_format_round_to_infinity_and_to_zero(form: Format) -> None:
    largest = Fraction(2) ** (form.greatest + 1) - Fraction(2) ** (form.greatest + 1 - form.bits)
    edge = largest + Fraction(2) ** (form.greatest - form.bits)
    assert rounded(_exact(largest), form) == float(largest)
    assert rounded(_exact(edge), form) == math.inf
    assert rounded(_exact(-edge), form) == -math.inf
    assert rounded(_exact(edge - 1), form) == float(largest)
    tiny = Fraction(2) ** form.least
    assert rounded(_exact(tiny), form) == float(tiny)
    assert rounded(_exact(tiny / 2), form) == 0
    zero = rounded(Enclosure(-tiny / 8, Fraction(0)), form)
    assert (zero, math.copysign(1, zero)) == (0, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_the_numbers_of_its_dtype(name: str) -> None:
    form, known = FORMATS[name], ml_dtypes.finfo(DTYPES[name])
    assert form.smallest_normal == Fraction(float(known.smallest_normal))
    assert Fraction(2) ** form.least == Fraction(float(known.smallest_subnormal))
    assert ulp(Fraction(1), form) == Fraction(float(known.eps))
    assert Fraction(float(known.max)) < Fraction(2) ** (form.greatest + 1)
    assert Fraction(float(known.max)) * 2 > Fraction(2) ** (form.greatest + 1)


def test_a_finer_enclosure_decides_and_none_is_an_error() -> None:
    tie = 1 + Fraction(1, 2**11)
    wide = (tie - Fraction(1, 2**40), tie + Fraction(1, 2**40))
    assert rounded(Enclosure(*wide, lambda: _exact(tie + Fraction(1, 2**50))), HALF) > 1
    with pytest.raises(UndecidedError):
        rounded(Enclosure(*wide), HALF)
    assert rounded(Enclosure(-math.inf, -math.inf), HALF) == -math.inf


def _truth(x: Fraction | float) -> Truth:
    number = Enclosure(x, x)
    return Truth(x, {name: rounded(number, form) for name, form in FORMATS.items()})


def test_ulps_are_of_the_format_at_the_truth() -> None:
    third = Fraction(-1, 3)
    right = miss(float(np.float16(-1 / 3)), _truth(third), HALF)
    assert right.correct
    assert right.ulps == float(abs(Fraction(float(np.float16(-1 / 3))) - third) * 2**12)
    assert miss(-0.5, _truth(Fraction(-1)), HALF) == Miss(False, 512.0, 0.5, False)
    assert miss(-0.5, _truth(Fraction(-1)), FORMATS["float32"]).ulps == 2.0**22


def test_an_answer_without_a_number_is_lost_unless_it_is_right() -> None:
    lost = Miss(False, math.inf, math.inf, True)
    assert miss(math.nan, _truth(Fraction(-1)), HALF) == lost
    assert miss(-math.inf, _truth(Fraction(-1)), HALF) == lost
    assert miss(-math.inf, _truth(-math.inf), HALF) == Miss(True, 0.0, 0.0, False)
    assert miss(-1.0, _truth(-math.inf), HALF) == Miss(False, math.inf, math.inf, False)
    assert miss(math.nan, _truth(-math.inf), HALF) == Miss(False, math.inf, math.inf, False)
    beyond = _truth(Fraction(-100_000))  # finite, but not in float16
    assert miss(-math.inf, beyond, HALF).correct
    assert not miss(-65504.0, beyond, HALF).correct
    assert not miss(-math.inf, beyond, FORMATS["float32"]).correct


def test_what_the_format_cannot_hold_is_no_relative_error() -> None:
    below = Fraction(-1, 2**26)  # a quarter of the smallest float16
    assert miss(0.0, _truth(below), HALF) == Miss(True, 0.25, 2.0**-12, False)
    assert miss(0.0, _truth(below), FORMATS["float32"]).relative == 1
    assert miss(-1.0, _truth(Fraction(0)), FORMATS["float64"]).ulps == math.inf  # 2^1074


def test_the_statistics_count_a_lost_answer_as_infinitely_far() -> None:
    lost = Miss(False, math.inf, math.inf, True)
    misses = [Miss(True, 0.25, 0.1, False), Miss(False, 2.0, 0.5, False), lost]
    found = score(misses)
    assert (found.cases, found.correct, found.lost) == (3, 1, 1)
    assert (found.median_ulps, found.max_ulps, found.max_relative) == (2.0, math.inf, math.inf)
    assert (found.correct_share, found.lost_share) == (1 / 3, 1 / 3)
    assert found.badness > score(misses[:2]).badness > score(misses[:1]).badness
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (data["median_ulps"], data["max_ulps"]) == (2.0, "inf")


def test_the_truth_is_confirmed_by_ball_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.array([0.0, 1.0])
    assert float(truth_of(row, 1).value) == truth_of(row, 1).nearest["float64"]
    wrong = _exact(Fraction(-1, 3))
    monkeypatch.setattr(truth, "enclose", lambda logits, target: wrong)
    with pytest.raises(TruthError, match=r"-0\.333.* by enclose, -0\.313.* by ball"):
        truth_of(row, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_the_rows_are_of_their_dtype_possible_and_the_same_each_time(name: str) -> None:
    form = FORMATS[name]
    pairs = list(zip(batches(form, ROWS), batches(form, ROWS), strict=True))
    assert [b.family for b, _ in pairs[:: len(ROWS)]] == [family.name for family in FAMILIES]
    for batch, again in pairs:
        assert batch.logits.dtype == DTYPES[name]
        assert batch.logits.tobytes() == again.logits.tobytes()
        assert (batch.targets == again.targets).all()
        wide = batch.logits.astype(np.float64)
        assert not (np.isnan(wide) | (wide == np.inf)).any()
        assert (wide.max(axis=1) > -np.inf).all()


def test_the_families_are_what_they_say() -> None:
    found = {b.family: (b.logits, b.targets) for b in batches(FORMATS["float64"], {64: 60})}
    every = np.arange(60)
    certain, targets = found["certain"]
    gaps = np.sort(certain, axis=1)[:, -1] - np.sort(certain, axis=1)[:, -2]
    assert (certain.argmax(axis=1) == targets).all()
    assert (gaps.min(), gaps.max().round(6)) == (1, 40)
    assert (np.ptp(found["all equal"][0], axis=1) == 0).all()
    ties = found["ties"][0]
    assert ((ties == ties.max(axis=1, keepdims=True)).sum(axis=1) >= 2).all()
    masked, targets = found["some at -inf"]
    assert 0 < np.isneginf(masked[every, targets]).sum() < 10
    assert np.isneginf(masked).any(axis=1).all()
    improbable, targets = found["improbable"]
    assert (improbable.max(axis=1) - improbable[every, targets] > 9.99).all()
    assert np.abs(found["offset"][0]).max() > 2**52 - 100


def _entrant(name: str, packages: dict[str, str] = OWN) -> Peer:
    return Peer(name, name.title(), f"a.b:{name}", packages, "About.")


def _league(forms: dict[str, object], **options: Any) -> League:
    entrants = [_entrant(name) for name in forms]

    def open_one(target: str) -> Any:
        return InProcessTarget(forms[target.partition(":")[2]])

    return run_league(entrants, ROWS, DEFECTS[1:], open_one, **options)


def _form(one: Callable[[NDArray[Any], int], Any]) -> Form:
    return Form(one, {"a": "1"})


def test_a_wrong_formula_ranks_below_the_right_ones() -> None:
    flipped = _form(lambda z, t: -forms_numpy.own().one(z, t))
    careless = _form(lambda z, t: forms_numpy.own().one(z, t) * (1 + 2.0**-20))
    forms = {"flipped": flipped, "ratio": forms_numpy.log_of_ratio(), "careless": careless}
    forms |= {"own": forms_numpy.own(), "shifted": forms_numpy.shifted_minus_log()}
    ranking = _league(forms).ranking("float64")
    names = [entry.peer.name for entry, _ in ranking]
    assert names == ["own", "careless", "shifted", "flipped", "ratio"]
    totals = {entry.peer.name: standing.total for entry, standing in ranking}
    assert totals["own"].max_ulps < 4
    assert totals["careless"].correct_share < 0.2 < totals["own"].correct_share
    assert totals["flipped"].max_relative > 1.5
    assert totals["ratio"].lost > 0
    assert totals["shifted"].max_relative == 1
    worst = {entry.peer.name: standing.worst_family for entry, standing in ranking}
    assert worst["ratio"] in ("offset", "improbable")
    assert worst["shifted"] in ("certain", "certain, far")


def test_the_correct_answer_of_a_format_is_correct_everywhere() -> None:
    form = _form(lambda z, t: np.array(truth_of(z, t).nearest[z.dtype.name]).astype(z.dtype))
    (entry,) = _league({"right": form}).entries
    for dtype, standing in entry.standings.items():
        assert standing.answers_in == dtype
        assert standing.total.correct == standing.total.cases == len(FAMILIES) * sum(ROWS.values())
        assert standing.total.max_ulps <= 0.5
    assert not DEFECTS[1].is_shown(entry.defects[DEFECTS[1].name])


def test_answers_are_judged_in_the_dtype_that_they_have() -> None:
    (entry,) = _league({"own": forms_numpy.own()}).entries
    assert {standing.answers_in for standing in entry.standings.values()} == {"float64"}
    assert {standing.total.max_ulps < 4 for standing in entry.standings.values()} == {True}


def test_a_missing_package_is_not_run_and_said_first() -> None:
    absent = _entrant("absent", {"no_such_package_at_all": "no-such"})
    found = run_league([absent], ROWS, DEFECTS)
    assert found.entries[0].problem == "not installed: no-such"
    assert (found.missing, found.broken) == ([found.entries[0]], [])
    page = "\n".join(section(found))
    assert "### Not run: 1 of 1" in page
    assert "- **Absent**: not installed: no-such" in page
    assert "(not run)" in page
    assert "NOT RUN absent: not installed: no-such" in _printed(found)
    assert _field_of(found).exit_status == 3


def _field_of(found: League) -> FieldReport:
    return FieldReport((), {}, "0.1", "3", "here", "2026-01-01", "ci", accuracy=found)


def _printed(found: League) -> str:
    screen = Console(file=StringIO(), width=120)
    print_league(found, screen)
    return screen.file.getvalue()  # type: ignore[attr-defined]


def _raises(error: BaseException) -> Form:
    def one(z: NDArray[Any], t: int) -> Any:
        raise error

    return _form(one)


def test_a_dtype_that_is_refused_is_named_with_what_was_raised() -> None:
    def one(z: NDArray[Any], t: int) -> Any:
        if z.dtype == ml_dtypes.bfloat16:
            raise TypeError("no bfloat16 here")
        return forms_numpy.own().one(z, t)

    found = _league({"picky": _form(one)})
    (entry,) = found.entries
    assert list(entry.standings) == ["float64", "float32", "float16"]
    assert entry.refused == {"bfloat16": "TypeError: no bfloat16 here"}
    assert entry.defects == {}
    assert _field_of(found).exit_status == 0
    assert "- Picky, bfloat16: TypeError: no bfloat16 here" in "\n".join(section(found))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (_raises(AttributeError("it has gone")), "float64: AttributeError: it has gone; float32"),
        (_form(lambda z, t: np.int32(0)), "answered in int32"),
        (SimpleNamespace(score=lambda **call: (np.zeros(2), 0.0, 0)), "answered with shape (2,)"),
        (_form(lambda z, t: np.zeros((), "f4" if len(z) == 2 else "f8")), "float32, float64"),
    ],
    ids=["raises", "integers", "shape", "two dtypes"],
)
def test_what_gives_no_answers_is_an_error_and_not_the_last_of_the_league(
    form: object, text: str
) -> None:
    found = _league({"broken": form, "own": forms_numpy.own()})
    assert [entry.peer.name for entry in found.broken] == ["broken"]
    assert text in found.broken[0].problem
    assert [entry.peer.name for entry, _ in found.ranking("float64")] == ["own"]
    assert _field_of(found).exit_status == 2
    assert "### Errors: 1 of 2" in "\n".join(section(found))


@pytest.mark.parametrize(
    ("error", "broken"),
    [(FrameworkMissing("needs x"), False), (TargetError("cannot"), True), (OSError("no"), True)],
)
def test_a_target_that_does_not_open_is_told_and_the_next_one_runs(
    error: Exception, broken: bool
) -> None:
    def open_one(target: str) -> Any:
        if target == "a.b:first":
            raise error
        return InProcessTarget(forms_numpy.own())

    found = run_league([_entrant("first"), _entrant("second")], ROWS, (), open_one)
    first, second = found.entries
    assert first.standings == {}
    assert (first.broken, str(error) in first.problem) == (broken, True)
    assert second.standings


def test_without_a_truth_nothing_is_measured_and_all_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def contradict(logits: NDArray[Any], target: int) -> Truth:
        raise TruthError("two numbers")

    monkeypatch.setattr(league, "truth_of", contradict)
    said: list[str] = []
    found = _league({"own": forms_numpy.own()}, say=said.append)
    assert found.broken == list(found.entries)
    assert said == ["accuracy: ERROR, the league broke: TruthError: two numbers"]
    assert found.entries[0].problem in said[0]


def test_an_interrupted_league_says_what_it_did_not_reach() -> None:
    def open_one(target: str) -> Any:
        raise KeyboardInterrupt

    found = run_league([_entrant("a"), _entrant("b")], {2: 2}, (), open_one)
    assert found.interrupted
    assert [entry.problem for entry in found.entries] == ["interrupted", "interrupted"]


def test_a_defect_is_still_there_only_where_it_is_seen() -> None:
    rounds_first = _form(
        lambda z, t: (z[t] - z.max()) - np.log(np.exp(z - z.max()).sum()).astype(z.dtype)
    )
    defect = replace(DEFECTS[1], seen_in=("old", "own", "gone"))
    forms = {"old": rounds_first, "own": forms_numpy.own()}
    found = replace(_league(forms), defects=(defect,))
    page = "\n".join(section(found))
    assert "First seen in Old (still there), Own (no longer there), gone (not run)." in page
    assert "| **true** |  | −0.006715 | −0.002476 |  |" in page
    assert "| Old | bfloat16 | −0.007782 | 0 | **yes** |" in page
    assert "| Own | float64 | −0.006715 | −0.002476 | no |" in page


def test_the_sum_of_equal_logits_overflows_in_float16_from_65520_on() -> None:
    labels = [probe.label for probe in DEFECTS[0].probes]
    assert labels[:2] == ["V = 65,519", "V = 65,520"]
    naive = forms_numpy.shifted_minus_log().one
    with np.errstate(all="ignore"):
        seen = [p.observe(float(naive(p.logits, p.target))) for p in DEFECTS[0].probes[:2]]
    assert [each.miss.lost for each in seen] == [False, True]
    assert DEFECTS[0].is_shown(seen)
    assert not DEFECTS[0].is_shown(seen[:1])


def test_the_data_of_a_league_is_plain() -> None:
    found = _league({"own": forms_numpy.own(), "ratio": forms_numpy.log_of_ratio()})
    data = json.loads(json.dumps(_field_of(found).to_json(), allow_nan=False))["accuracy"]
    own, ratio = data["entries"]
    assert own["logits"]["float16"]["answers_in"] == "float64"
    assert own["logits"]["float64"]["total"]["cases"] == 56
    assert set(own["logits"]["float64"]["families"]) == {family.name for family in FAMILIES}
    assert ratio["logits"]["float64"]["total"]["max_ulps"] == "inf"
    assert data["defects"]["bfloat16-near-1"]["probes"][1]["true"] == -0.0024756851377304495
    assert own["defects"]["bfloat16-near-1"][1]["answer"] == -0.0024756851377304495
    assert data["rows"] == {"2": 4, "30": 3}


def test_a_row_of_the_table_has_the_figures() -> None:
    found = _league({"ratio": forms_numpy.log_of_ratio()})
    total = found.entries[0].standings["float16"].total
    page = "\n".join(section(found))
    assert f"| Ratio | float16 | 56 | {math.floor(1000 * total.correct_share) / 10:.1f}% |" in page
    assert f" | ∞ | ∞ | {math.ceil(1000 * total.lost_share) / 10:.1f}% | " in page
    assert "1 of 1 give at least one answer in which nothing is right" in page
    assert "lost" in _printed(found)


def test_a_form_is_a_target_that_answers_by_position() -> None:
    logits = np.array([[[0.0, 40.0], [1.0, 1.0]]])
    targets, selected = np.array([[1, 0]]), np.array([[True, False]])
    found = forms_numpy.own().score(logits, targets, selected, None)
    assert found["log_likelihood"].tolist() == [[-4.248354255291589e-18, 0.0]]
    assert (float(found["sum"]), int(found["count"])) == (-4.248354255291589e-18, 1)
    with pytest.raises(NotImplementedError, match="no weights"):
        forms_numpy.own().score(logits, targets, selected, np.ones((1, 2)))


def test_a_form_runs_in_a_process_of_its_own() -> None:
    own = next(peer for peer in ENTRANTS if peer.name == "mlm-spec")
    (entry,) = run_league([own], {2: 1}, DEFECTS).entries
    assert entry.problem == ""
    assert set(entry.standings) == set(FORMATS)
    assert set(entry.defects) == {defect.name for defect in DEFECTS}
    assert "numpy" in entry.versions


def _tree(peer: Peer) -> ast.Module:
    module = peer.target.partition(":")[0]
    assert module.startswith("mlm_conformance.field.accuracy.forms_")
    return ast.parse((ROOM / f"{module.rpartition('.')[2]}.py").read_text())


@pytest.mark.parametrize("peer", ENTRANTS, ids=lambda peer: peer.name)
def test_each_entrant_is_a_function_that_takes_nothing(peer: Peer) -> None:
    makers = {n.name: n.args for n in _tree(peer).body if isinstance(n, ast.FunctionDef)}
    assert not [*makers[peer.target.partition(":")[2]].args]


@pytest.mark.parametrize("peer", ENTRANTS, ids=lambda peer: peer.name)
def test_each_package_that_a_form_imports_is_among_its_packages(peer: Peer) -> None:
    """Otherwise a missing one would be an error and not "not run"."""
    own = {"mlm_conformance", "mlm_spec", "numpy", "__future__"}
    nodes = list(ast.walk(_tree(peer)))
    imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported} - own - sys.stdlib_module_names
    assert roots <= set(peer.packages)


def test_names_titles_and_targets_are_unique_and_defects_name_entrants() -> None:
    for part in ("name", "title", "target"):
        values = [getattr(peer, part) for peer in ENTRANTS]
        assert len(set(values)) == len(values)
    for defect in DEFECTS:
        assert set(defect.seen_in) <= {peer.name for peer in ENTRANTS}


def test_the_league_imports_no_framework() -> None:
    frameworks = {m for peer in ENTRANTS for m in peer.packages} - {"numpy", "ml_dtypes"}
    code = (
        "import sys; import mlm_conformance.field.accuracy.league; "
        f"print(*sorted(set(sys.modules) & {frameworks!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_package_of_the_league_is_pinned_or_comes_with_the_suite() -> None:
    root = ROOM.parents[2]
    lines = (root / "field-constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("-", "_") for line in lines}
    wanted = {p.replace("-", "_") for peer in ENTRANTS for p in peer.packages.values()}
    assert wanted - {"torch"} <= pinned  # torch is pinned in the Makefile


def test_the_committed_report_has_a_row_for_every_entrant() -> None:
    page = (ROOM.parents[3] / "docs" / "field-report.md").read_text()
    part = page[page.index("## The accuracy league") : page.index("## Findings")]
    for peer in ENTRANTS:
        assert f"| {peer.title} | " in part
    assert "### Not run" not in part
    assert "### Errors" not in part


def test_an_entry_without_a_problem_is_neither_missing_nor_broken() -> None:
    found = League((Entry(_entrant("a")),), ROWS, ())
    assert (found.missing, found.broken) == ([], [])

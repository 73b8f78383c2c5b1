"""The league: each implementation on the same rows, in a process of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.answer import Answer
from mlm_conformance.field.accuracy.defects import DEFECTS, Defect, Observed
from mlm_conformance.field.accuracy.entrants import ENTRANTS
from mlm_conformance.field.accuracy.families import ROWS, Batch, batches
from mlm_conformance.field.accuracy.formats import FORMATS
from mlm_conformance.field.accuracy.results import Entry, League, Standing
from mlm_conformance.field.accuracy.statistics import Miss, miss, score
from mlm_conformance.field.accuracy.truth import Truth, truth_of
from mlm_conformance.field.packages import absent_packages
from mlm_conformance.field.registry import Peer
from mlm_conformance.process import Target, open_target
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError

__all__ = ["Question", "enter", "not_reached", "questions", "run_league"]

#: From the name of a target to the target.
Open: TypeAlias = Callable[[str], Target]
Say: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Question:
    """Rows with what is true of them."""

    batch: Batch
    truths: tuple[Truth, ...]


#: By dtype.
Questions: TypeAlias = Mapping[str, Sequence[Question]]


class _RefusedError(Exception):
    """The implementation raised."""


class _BrokenError(Exception):
    """There is no answer, or none that can be read."""


def run_league(
    entrants: Sequence[Peer] = ENTRANTS,
    rows: Mapping[int, int] = ROWS,
    defects: Sequence[Defect] = DEFECTS,
    open_one: Open = open_target,
    say: Say = lambda text: None,
) -> League:
    """Each of ``entrants`` on the rows of all families, one after the other.

    Parameters
    ----------
    rows : size of the vocabulary to positions of each family.
    open_one : how a target is opened; the usual one starts a process.
    say : gets a line after each step.
    """
    entries: list[Entry] = []
    interrupted = False
    try:
        asked = questions(rows, say)
        for number, peer in enumerate(entrants, 1):
            entries.append(enter(peer, asked, defects, open_one))
            say(f"accuracy ({number} of {len(entrants)}) {peer.name}: {_line(entries[-1])}")
    except KeyboardInterrupt:
        interrupted = True
        entries += [Entry(peer, problem="interrupted") for peer in entrants[len(entries) :]]
    except Exception as error:  # no truth; what else the command found is worth keeping
        entries = [Entry(peer, problem=_broke(error), broken=True) for peer in entrants]
        say(f"accuracy: ERROR, {_broke(error)}")
    return League(tuple(entries), rows, tuple(defects), interrupted)


def not_reached(entrants: Sequence[Peer] = ENTRANTS) -> League:
    """The league of a run that was interrupted before it."""
    entries = tuple(Entry(peer, problem="interrupted") for peer in entrants)
    return League(entries, ROWS, DEFECTS, interrupted=True)


def questions(rows: Mapping[int, int], say: Say = lambda text: None) -> Questions:
    """The rows of all dtypes, with the truth."""
    found: dict[str, list[Question]] = {}
    for name, form in FORMATS.items():
        found[name] = [Question(batch, _truths(batch)) for batch in batches(form, rows)]
        count = sum(len(each.truths) for each in found[name])
        say(f"accuracy: {count:,} true values for logits in {name}")
    return found


def _truths(batch: Batch) -> tuple[Truth, ...]:
    pairs = zip(batch.logits, batch.targets.tolist(), strict=True)
    return tuple(truth_of(row, target) for row, target in pairs)


def enter(
    peer: Peer, asked: Questions, defects: Sequence[Defect], open_one: Open = open_target
) -> Entry:
    """One implementation; what breaks is told, never raised."""
    absent = absent_packages(peer)
    if absent:
        return Entry(peer, problem=f"not installed: {', '.join(absent)}")
    try:
        with closing(open_one(peer.target)) as target:
            return _measure(peer, target, asked, defects)
    except (FrameworkMissing, DeviceMissing) as error:
        return Entry(peer, problem=str(error))
    except (TargetError, _BrokenError, _RefusedError) as error:
        return Entry(peer, problem=str(error), broken=True)
    except Exception as error:  # the league itself: the others are still worth measuring
        return Entry(peer, problem=_broke(error), broken=True)


def _measure(peer: Peer, target: Target, asked: Questions, defects: Sequence[Defect]) -> Entry:
    versions = target.hello().versions
    standings, refused = {}, {}
    for dtype, every in asked.items():
        try:
            standings[dtype] = _standing(target, dtype, every)
        except _RefusedError as error:
            refused[dtype] = str(error)
    if not standings:  # a function that has gone raises too; only a dtype is refused
        raise _BrokenError("; ".join(f"{dtype}: {text}" for dtype, text in refused.items()))
    seen = {d.name: _observed(target, d) for d in defects if d.probes[0].dtype in standings}
    return Entry(peer, standings, refused, seen, versions)


def _standing(target: Target, dtype: str, asked: Sequence[Question]) -> Standing:
    misses: dict[str, list[Miss]] = defaultdict(list)
    dtypes = set()
    for question in asked:
        answers = _ask(target, question.batch.logits, question.batch.targets)
        dtypes.add(answers.dtype.name)
        misses[question.batch.family] += _misses(answers, question.truths)
    if len(dtypes) > 1:
        raise _BrokenError(f"logits in {dtype}: answers in {', '.join(sorted(dtypes))}")
    (answers_in,) = dtypes
    total = score(each for family in misses.values() for each in family)
    families = {name: score(each) for name, each in misses.items()}
    return Standing(dtype, answers_in, total, families)


def _misses(answers: NDArray[Any], truths: Sequence[Truth]) -> Iterator[Miss]:
    form = FORMATS.get(answers.dtype.name)
    if form is None:
        raise _BrokenError(f"answered in {answers.dtype}")
    for answer, truth in zip(answers.astype(np.float64).tolist(), truths, strict=True):
        yield miss(answer, truth, form)


def _observed(target: Target, defect: Defect) -> tuple[Observed, ...]:
    answers = [_ask(target, p.logits[None], np.array([p.target])) for p in defect.probes]
    pairs = zip(defect.probes, answers, strict=True)
    return tuple(probe.observe(float(answer[0])) for probe, answer in pairs)


def _ask(target: Target, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """log Pr of N positions, (N,), in the dtype of the answer."""
    selected = np.ones((1, len(targets)), np.bool_)
    answer = target.call(
        "score", logits=logits[None], targets=targets[None], selected=selected, weights=None
    )
    if answer.raised is not None:
        raise _RefusedError(f"{answer.raised.type}: {answer.raised.message}")
    return _read(answer, len(targets))


def _read(answer: Answer, count: int) -> NDArray[Any]:
    if answer.kind != "result":
        raise _BrokenError(f"{answer.text} {answer.output}".strip())
    found: NDArray[Any] = answer.fields["log_likelihood"]
    if found.shape != (1, count):
        raise _BrokenError(f"answered with shape {found.shape}, expected {(1, count)}")
    return found.reshape(count)


def _broke(error: Exception) -> str:
    return f"the league broke: {type(error).__name__}: {error}"


def _line(entry: Entry) -> str:
    if entry.problem:
        return f"{'ERROR' if entry.broken else 'NOT RUN'}, {entry.problem}"
    shares = (f"{k} {100 * s.total.correct_share:.0f}%" for k, s in entry.standings.items())
    return "correctly rounded in " + ", ".join(shares)

"""What a person sees of a run: a moving line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from mlm_conformance.train.held_out import Evaluation

__all__ = ["Moving", "Plain", "Progress", "Seen", "duration", "shown"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is said of an update.

    Attributes
    ----------
    update, updates : its number, and how many there will be.
    loss : nats per selected token; of the updates since the last line, their mean over tokens.
    rate : real tokens of the text per second.
    learning_rate : η_n.
    left : seconds until the end, at this pace.
    """

    update: int
    updates: int
    loss: float
    rate: float
    learning_rate: float
    left: float


class Progress(Protocol):
    """Where a run says what it does."""

    def note(self, text: str) -> None: ...
    def updated(self, seen: Seen) -> None: ...
    def evaluated(self, update: int, found: Evaluation, unigram: float) -> None: ...


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725.4), duration(59)
    ('1:02:05', '0:59')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _numbers(seen: Seen) -> str:
    return (
        f"loss {seen.loss:.3f}  {seen.rate:,.0f} tokens/s  "
        f"learning rate {seen.learning_rate:.2e}  {duration(seen.left)} left"
    )


def _evaluation(update: int, found: Evaluation, unigram: float) -> str:
    return (
        f"update {update}: held-out text {found.nats:.4f} nats per selected token "
        f"(perplexity {found.perplexity:.1f}); unigram entropy {unigram:.4f}"
    )


@dataclass(slots=True)
class Plain:
    """Lines of text, one for every ``every`` updates."""

    every: int
    file: TextIO = field(default_factory=lambda: sys.stdout)

    def note(self, text: str) -> None:
        print(text, file=self.file, flush=True)

    def updated(self, seen: Seen) -> None:
        if seen.update % self.every == 0 or seen.update == seen.updates:
            width = len(str(seen.updates))
            self.note(f"update {seen.update:{width}} of {seen.updates}: {_numbers(seen)}")

    def evaluated(self, update: int, found: Evaluation, unigram: float) -> None:
        self.note(_evaluation(update, found, unigram))


@dataclass(slots=True)
class Moving:
    """One line that moves, and what is noted above it."""

    bar: Bar
    task: TaskID

    def note(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False)

    def updated(self, seen: Seen) -> None:
        self.bar.update(self.task, completed=seen.update, description=_numbers(seen))

    def evaluated(self, update: int, found: Evaluation, unigram: float) -> None:
        self.note(_evaluation(update, found, unigram))


@contextmanager
def shown(updates: int, done: int, *, terminal: bool) -> Iterator[Progress]:
    """Progress on standard output: moving where that is a terminal."""
    if not terminal:
        yield Plain(max(1, updates // 50))
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns) as bar:
        yield Moving(bar, bar.add_task("", total=updates, completed=done))

"""The updates of a run, with what is kept of them."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train.folder import Metrics, RunFolder
from mlm_conformance.train.held_out import Evaluation, HeldOut, evaluate
from mlm_conformance.train.progress import Progress, Seen
from mlm_conformance.train.settings import Settings
from mlm_conformance.train.windows import Windows
from mlm_spec.training.batch import UpdateStatus
from mlm_spec.training.order import sequences_at

__all__ = ["Interrupt", "Run", "interruptible", "micro_batches", "train"]

#: So many updates one after the other without effect end a run.
_PATIENCE = 100


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """All that the updates need.

    Attributes
    ----------
    settings, windows, held_out : what is trained and evaluated on, and how.
    session : the backend's.
    folder, metrics : where checkpoints and numbers go.
    evaluate_every, checkpoint_every : in updates.
    update, position : how many updates are made already, and how many sequences they consumed.
    """

    settings: Settings
    windows: Windows
    held_out: HeldOut
    session: Any
    folder: RunFolder
    metrics: Metrics
    evaluate_every: int
    checkpoint_every: int
    update: int = 0
    position: int = 0


@dataclass(slots=True)
class Interrupt:
    """Whether Ctrl-C was pressed.  The update that is being made is finished first."""

    asked: bool = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Catch the first Ctrl-C; a second one ends all at once, without a checkpoint."""
    interrupt = Interrupt()

    def ask(number: int, frame: FrameType | None) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def micro_batches(
    windows: Windows, settings: Settings, position: int
) -> tuple[list[Mapping[str, Any]], int]:
    """The micro-batches of the update that begins at ``position``, and how many tokens are real.

    Where an epoch ends within an update, its part and that of the next are apart, since masks
    depend on the epoch.
    """
    parts = sequences_at(position, settings.batch, windows.trained, settings.seed)
    size = settings.micro_batch
    batches = [
        windows.batch(numbers[at : at + size], epoch)
        for epoch, numbers in parts
        for at in range(0, len(numbers), size)
    ]
    return batches, int(sum(windows.size[numbers].sum() for _, numbers in parts))


@dataclass(slots=True)
class _Pace:
    """Loss and speed of the last updates."""

    recent: deque[tuple[float, int, int, float]] = field(default_factory=lambda: deque(maxlen=20))

    def add(self, loss: float, count: int, tokens: int, seconds: float) -> None:
        self.recent.append((loss * count, count, tokens, seconds))

    def seen(self, update: int, updates: int, learning_rate: float) -> Seen:
        total, count, tokens, seconds = (sum(column) for column in zip(*self.recent, strict=True))
        left = (updates - update) * seconds / len(self.recent)
        return Seen(update, updates, total / max(count, 1), tokens / seconds, learning_rate, left)


def train(run: Run, progress: Progress, interrupt: Interrupt) -> Evaluation | None:
    """Go on until the last update, or until Ctrl-C.

    Returns
    -------
    The last evaluation; None if the run was interrupted.  The state is saved in either case.

    Raises
    ------
    BadCallError : no update has had an effect for a long time.
    """
    update, position = run.update, run.position
    found = _evaluated(run, progress, update) if update == 0 else None
    pace, without_effect = _Pace(), 0
    while update < run.settings.updates and not interrupt.asked:
        batches, tokens = micro_batches(run.windows, run.settings, position)
        started = time.perf_counter()
        report = run.session.step(batches)
        seconds = max(time.perf_counter() - started, 1e-9)  # a clock may stand still
        position += run.settings.batch
        if report["status"] != UpdateStatus.OK:
            without_effect += 1
            _say_without_effect(run, progress, report, without_effect)
            continue
        without_effect, update = 0, int(report["update"])
        pace.add(float(report["loss"]), int(report["count"]), tokens, seconds)
        _record(run, report, position, tokens, seconds)
        progress.updated(pace.seen(update, run.settings.updates, float(report["learning_rate"])))
        found = _kept(run, progress, update)
    run.session.save(run.folder.checkpoint)
    if interrupt.asked and update < run.settings.updates:
        return None
    return found or evaluate(run.session, run.held_out)


def _kept(run: Run, progress: Progress, update: int) -> Evaluation | None:
    """Evaluate and save where it is time to."""
    last = update == run.settings.updates
    found = None
    if last or update % run.evaluate_every == 0:
        found = _evaluated(run, progress, update)
    # After the evaluation: whoever resumes here has it in the metrics already.
    if not last and update % run.checkpoint_every == 0:
        run.session.save(run.folder.checkpoint)
    return found


def _evaluated(run: Run, progress: Progress, update: int) -> Evaluation:
    found = evaluate(run.session, run.held_out)
    unigram = run.held_out.unigram
    run.metrics.write("evaluation", update, nats=found.nats, count=found.count, unigram=unigram)
    progress.evaluated(update, found, unigram)
    return found


def _record(
    run: Run, report: Mapping[str, Any], position: int, tokens: int, seconds: float
) -> None:
    run.metrics.write(
        "update",
        int(report["update"]),
        loss=float(report["loss"]),
        count=int(report["count"]),
        norm=float(report["norm"]),
        learning_rate=float(report["learning_rate"]),
        position=position,
        tokens=tokens,
        seconds=round(seconds, 6),
    )


def _say_without_effect(
    run: Run, progress: Progress, report: Mapping[str, Any], times: int
) -> None:
    status = UpdateStatus(int(report["status"]))
    reason = "nothing is selected" if status & UpdateStatus.EMPTY else "a gradient is not finite"
    progress.note(f"after update {report['update']}: {reason}, nothing was changed")
    if times == _PATIENCE:
        run.session.save(run.folder.checkpoint)
        raise BadCallError(f"{reason} in {times} updates one after the other; the run is ended")

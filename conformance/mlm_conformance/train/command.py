"""``mlm-spec train``: from the options to a run, and what is left of it at the end."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mlm_conformance.outcomes import EXIT_INTERRUPTED, BadCallError
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError, resolve
from mlm_conformance.train.arguments import SETTINGS
from mlm_conformance.train.curve import draw_curve
from mlm_conformance.train.documents import Document, given_text, python_prose
from mlm_conformance.train.export import export_model
from mlm_conformance.train.folder import Metrics, RefusedRun, RunFolder, keep_metrics, read_metrics
from mlm_conformance.train.held_out import Evaluation, held_out
from mlm_conformance.train.loop import Run, interruptible, train
from mlm_conformance.train.progress import shown
from mlm_conformance.train.settings import Rhythm, Settings, settings_from, usual_rhythm
from mlm_conformance.train.store import TokenStore, build_store, open_store, text_checksum
from mlm_conformance.train.windows import Windows, cut
from mlm_spec.training.checkpoint import read_checkpoint
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.parameters import initial_parameters, shapes

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit status: 0 finished, 130 interrupted, 3 no framework or no device.

    Raises
    ------
    BadCallError : a bad call, or a backend that cannot be used.
    MlmSpecError : a checkpoint that cannot be read or written, and what a backend refuses.
    """
    folder = RunFolder(Path(options.out))
    (folder.recorded if options.resume else folder.require_free)()  # before a framework is loaded
    try:
        backend = resolve(options.backend, options.device)
    except TargetError as error:
        raise BadCallError(str(error)) from error
    except (FrameworkMissing, DeviceMissing) as error:
        print(f"mlm-spec: NOT RUN: {error}", file=sys.stderr)
        return 3
    if not callable(getattr(backend, "session", None)):
        raise BadCallError(f"the target {options.backend} has no method session; expected one")
    given = {name: getattr(options, name) for name in SETTINGS if hasattr(options, name)}
    given |= {"text": tuple(given["text"])} if "text" in given else {}
    every = (options.evaluate_every, options.checkpoint_every)
    if options.resume:
        with folder.held():
            begun = _resumed(folder, given, every)
            with _refusals(options.backend):
                return _train(options, backend, folder, begun)
    settings, documents = _told(given)
    with folder.begun():
        begun = _new(folder, settings, documents, usual_rhythm(settings).changed(*every))
        with _refusals(options.backend):
            return _train(options, backend, folder, begun)


class _Begun(NamedTuple):
    """A run that is written down in its folder."""

    settings: Settings
    store: TokenStore
    rhythm: Rhythm


def _told(given: Mapping[str, Any]) -> tuple[Settings, list[Document]]:
    """What a new run is told: its settings and its text."""
    settings = settings_from(given)
    settings.training()  # what has no meaning is refused before the text is read
    settings.encoder(settings.vocabulary)
    if settings.text:
        return settings, given_text(settings.text)
    print("reading the prose of this Python installation", flush=True)
    return settings, python_prose()


def _new(
    folder: RunFolder, settings: Settings, documents: list[Document], rhythm: Rhythm
) -> _Begun:
    size = sum(len(document.text) for document in documents)
    count = f"{len(documents)} document{'s' if len(documents) != 1 else ''}"
    print(f"{count}, {size:,} characters: training a vocabulary", flush=True)
    store = build_store(folder.store, documents, settings.vocabulary, settings.length)
    cut(store, settings.length)  # too little text is refused before anything is recorded
    folder.record(settings, store.fingerprint, rhythm)
    return _Begun(settings, store, rhythm)


def _resumed(
    folder: RunFolder, given: Mapping[str, Any], every: tuple[int | None, int | None]
) -> _Begun:
    """The run that is in the folder; what is given must be what it was told, but for the rhythm."""
    settings, fingerprint, recorded_rhythm = folder.recorded()
    for name, value in given.items():
        recorded = getattr(settings, name)
        if value != recorded:
            option = name.replace("_", "-")
            raise BadCallError(f"--{option} is {value}; expected {recorded}, as the run began")
    store = open_store(folder.store)
    if store.fingerprint != fingerprint:
        raise BadCallError(
            f"{folder.store} has the fingerprint {store.fingerprint}; expected {fingerprint}"
        )
    if "text" in given and text_checksum(given_text(settings.text)) != store.text:
        raise BadCallError("--text is not what it was when the run began; expected the same files")
    folder.sweep()
    rhythm = recorded_rhythm.changed(*every)
    if rhythm != recorded_rhythm:
        folder.record(settings, fingerprint, rhythm)
    return _Begun(settings, store, rhythm)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What a backend says that it cannot do, as a bad call."""
    try:
        yield
    except NotImplementedError as error:
        reason = " ".join(str(error).split()) or "it does not say why"
        raise RefusedRun(f"the backend {name} cannot train this: {reason}") from error


def _train(options: argparse.Namespace, backend: Any, folder: RunFolder, begun: _Begun) -> int:
    settings, store, rhythm = begun
    windows = cut(store, settings.length)
    encoder, policy = settings.encoder(store.vocab_size), settings.policy(store.vocab_size)
    session = backend.session(
        encoder=encoder.to_mapping(),
        training=settings.training().to_mapping(),
        parameters=initial_parameters(encoder, settings.seed),
        policy=policy,
    )
    update, position = _loaded(session, folder) if options.resume else (0, 0)
    text = held_out(windows, policy, settings.seed, settings.held_out, settings.micro_batch)
    with (
        open(folder.metrics, "a", encoding="utf-8") as file,
        shown(settings.updates, update, terminal=sys.stdout.isatty()) as progress,
        interruptible() as interrupt,
    ):
        progress.note(_about(windows, store, encoder, text.count))
        whole = Run(
            settings, windows, text, session, folder, Metrics(file), rhythm.evaluate,
            rhythm.checkpoint, update, position,
        )  # fmt: skip
        found = train(whole, progress, interrupt)
    draw_curve(folder.curve, read_metrics(folder.metrics))
    if found is None:
        return _interrupted(options)
    export_model(folder.model, session.parameters(), encoder, store)
    _finished(folder, found, text.unigram)
    return 0


def _loaded(session: Any, folder: RunFolder) -> tuple[int, int]:
    """Give the session the run's checkpoint, if it got that far; its update and its position."""
    if not folder.checkpoint.exists():
        _say_lost_updates(folder)
        keep_metrics(folder.metrics, -1)
        return 0, 0
    state = read_checkpoint(folder.checkpoint).state  # the form is the same for all backends
    session.load(folder.checkpoint)
    # Before update 1 there was an evaluation, which is made again.
    keep_metrics(folder.metrics, state.update or -1)
    return state.update, state.position


def _say_lost_updates(folder: RunFolder) -> None:
    """Whoever resumes after many updates expects to go on from there."""
    made = [entry["update"] for entry in read_metrics(folder.metrics) if entry["kind"] == "update"]
    if made:
        print(
            f"mlm-spec: warning: {folder.metrics} has updates up to {made[-1]}, but there is no "
            f"{folder.checkpoint}: they are made again, from the first on",
            file=sys.stderr,
        )


def _about(windows: Windows, store: TokenStore, encoder: EncoderConfig, count: int) -> str:
    size = sum(math.prod(shape) for shape in shapes(encoder).values())
    return (
        f"vocabulary {store.vocab_size:,}; {len(store.tokens):,} tokens; {windows.trained:,} "
        f"sequences to train on, {len(windows.begin) - windows.trained:,} held out "
        f"({count:,} tokens predicted); {size:,} parameters"
    )


def _interrupted(options: argparse.Namespace) -> int:
    where = f" --device {options.device}" if options.device != "cpu" else ""
    out = shlex.quote(options.out)
    print(
        "mlm-spec: interrupted; a checkpoint is saved.  To go on:\n"
        f"    mlm-spec train --backend {options.backend}{where} --out {out} --resume",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def _finished(folder: RunFolder, found: Evaluation, unigram: float) -> None:
    print(
        f"held-out text: {found.nats:.4f} nats per selected token, perplexity "
        f"{found.perplexity:.2f}; unigram entropy {unigram:.4f}\n"
        f"model: {folder.model}\ncurve: {folder.curve}\nmetrics: {folder.metrics}",
        flush=True,
    )

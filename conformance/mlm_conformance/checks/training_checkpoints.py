"""Sessions: what a checkpoint keeps, and who can read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.checkpoint_files import canonical, file_of
from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe, training_recipes
from mlm_conformance.cases.training_precision import PrecisionRecipe
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import opened, same_run
from mlm_conformance.checks.training_files import read_file, tensors_are_those_of
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_updates import judged_step
from mlm_spec.errors import CheckpointError
from mlm_spec.training.session import session as reference_session

__all__ = ["READY"]


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mlm-spec-") as name:
        yield Path(name)


def a_checkpoint_brings_everything_back(context: Context, case: TrainingCase) -> None:
    """To the bit: into the same session later, and into a new one."""
    with _folder() as folder, opened(context, case) as session, opened(context, case) as other:
        session.step(case.updates[0])
        session.save(folder / "one.safetensors")
        kept = session.parameters(), session.state()
        for batches in case.updates[1:]:
            session.step(batches)
        for each in (session, other):
            each.load(folder / "one.safetensors")
            same_run(context, each, kept, "after loading")
            judged_step(context, case, each, case.updates[1])
        context.saw("loaded", 2)


def a_resumed_run_is_the_uninterrupted_one(context: Context, case: TrainingCase) -> None:
    """Bit for bit, on one device, where a target says that it computes alike each time."""
    with _folder() as folder, opened(context, case) as session, opened(context, case) as other:
        session.step(case.updates[0])
        session.save(folder / "run.safetensors")
        other.load(folder / "run.safetensors")
        for batches in case.updates[1:]:
            session.step(batches)
            other.step(batches)
        same_run(context, other, (session.parameters(), session.state()), "of the resumed run")
        context.saw("resumed")


def the_relay_goes_on_from_others(context: Context, case: TrainingCase) -> None:
    """The reference's checkpoint is read here to the bit, and ours by the reference."""
    with _folder() as folder, opened(context, case) as session:
        first = _reference(case)
        first.step(case.updates[0])
        first.save(folder / "first.safetensors")
        session.load(folder / "first.safetensors")
        same_run(context, session, (first.parameters(), first.state()), "from the reference")
        judged_step(context, case, session, case.updates[1])
        session.save(folder / "second.safetensors")
        last = _reference(case)
        try:
            last.load(folder / "second.safetensors")
        except CheckpointError as error:
            context.require(False, f"the reference refuses its checkpoint: {error}")
        same_run(context, session, (last.parameters(), last.state()), "read by the reference")
        context.saw("handed on", 2)


def _reference(case: TrainingCase) -> Any:
    return reference_session(case.encoder, case.training, case.parameters, None)


def what_was_loaded_is_saved_again(context: Context, case: TrainingCase) -> None:
    """A checkpoint of another program, of a long run, comes back with the next save to the bit."""
    tensors, numbers = _long_run(case)
    texts = {"format": "mlm-spec-checkpoint/1", **numbers, "policy": ""}
    texts |= {"encoder": canonical(case.encoder), "training": canonical(case.training)}
    given = file_of(
        texts, {f"{g}/{n}": x for g, named in tensors.items() for n, x in named.items()}
    )
    with _folder() as folder, opened(context, case) as session:
        path = folder / "run.safetensors"
        path.write_bytes(given.content)
        session.load(path)
        wanted = {name: np.asarray(float(text)) for name, text in numbers.items()}
        same_run(context, session, (tensors["parameters"], {**tensors, **wanted}), "as loaded")
        session.save(path)
        file = read_file(path.read_bytes())
        tensors_are_those_of(context, file, tensors["parameters"], tensors)
        for name, text in texts.items():
            said = f"{name} of what was loaded and saved is {file.texts.get(name)!r}"
            context.require(file.texts.get(name) == text, f"{said}, should be {text!r}")
        context.saw("saved again")


def _long_run(case: TrainingCase) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """A state with numbers of all kinds: both zeros, tiny ones, positions above 2³²."""
    rng = generator(case.salt, 61)
    dtype = np.float64 if case.plan.precision == "float64" else np.float32
    odd = [-0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    tensors: dict[str, dict[str, Any]] = {"parameters": {}, "exp_avg": {}, "exp_avg_sq": {}}
    for name, parameter in case.parameters.items():
        m = rng.normal(size=parameter.shape)
        for group, drawn in zip(tensors, (parameter, m, m**2), strict=True):
            array = drawn.astype(dtype)
            array.flat[: len(odd)] = odd
            tensors[group][name] = array
    scale = 4096.0 if case.plan.precision == "float16" else 1.0
    return tensors, {"update": "7", "position": str(2**40 + 3), "loss_scale": repr(scale)}


_RUNS = training_recipes(dropouts=("none", "hidden"), sizes=SIZES[:3], updates=3)
_LOADED = ("loaded",)
#: Before any update: nothing is compiled.
_PRECISIONS = tuple(
    PrecisionRecipe(TrainingRecipe(SIZES[0], "packed", "one", "none", 3), precision)
    for precision in ("float16", "float64", "float32", "bfloat16")
)

READY = (
    Ready(a_checkpoint_brings_everything_back, _RUNS, _LOADED, "save", theorem=True),
    Ready(a_resumed_run_is_the_uninterrupted_one, _RUNS, ("resumed",), "save", theorem=True),
    Ready(the_relay_goes_on_from_others, _RUNS, ("handed on",), "load"),
    Ready(what_was_loaded_is_saved_again, (None, _PRECISIONS), ("saved again",), "load", True),
)

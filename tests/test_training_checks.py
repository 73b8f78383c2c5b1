"""The judgements of sessions: correct trainers pass them all, each wrong one fails its own."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlm_conformance.cases.checkpoint_files import broken
from mlm_conformance.cases.codec import decode_case, encode_case
from mlm_conformance.cases.training import SIZES, TrainingRecipe
from mlm_conformance.cases.training_batches import repadded, resplit, unpacked, widened
from mlm_conformance.check import Context, NotClaimed
from mlm_conformance.checks import (
    training_checkpoints,
    training_files,
    training_gradients,
    training_overflow,
    training_parts,
    training_precision,
    training_refusals,
    training_relay,
    training_runs,
    training_saving,
    training_updates,
)
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.mutants.trainer import correct_trainer
from mlm_conformance.oracle import reference_oracle
from mlm_conformance.process import TargetProcess
from mlm_conformance.simplify import simplify
from mlm_conformance.smoke import smoke

from mlm_spec.training.session import session

MODULES = (
    training_gradients,
    training_parts,
    training_updates,
    training_runs,
    training_checkpoints,
    training_files,
    training_precision,
    training_refusals,
    training_overflow,
    training_relay,
    training_saving,
)
READY = {ready.name: ready for module in MODULES for ready in module.READY}
REFERENCE = SimpleNamespace(session=session)
ORACLE = reference_oracle()


def judged(target: object, ready: Ready) -> Context:
    context = Context(InProcessTarget(target), ORACLE, frozenset({"session"}), None)
    for recipe in ready.recipes[1]:
        case = recipe.build(0)
        context.case = str(case)
        ready.judge(context, case)
    return context


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("target", [REFERENCE, correct_trainer], ids=["reference", "parts"])
def test_correct_trainers_pass(target: object, name: str) -> None:
    context = judged(target, READY[name])
    assert [need for need in READY[name].needs if not context.seen[need]] == []


def test_a_session_without_a_method_is_not_claimed() -> None:
    def only_gradients(**given: Any) -> Any:
        return SimpleNamespace(gradients=session(**given).gradients)

    target = SimpleNamespace(session=only_gradients)
    judged(target, READY["gradients_are_those_of_the_loss"])
    with pytest.raises(NotClaimed, match="its sessions have no"):
        judged(target, READY["the_first_update_is_that_of_adamw"])
    context = InProcessTarget(target)
    assert smoke(context, context.hello(), {"session"})["session"].fields == {
        "session",
        "gradients",
    }


def test_a_trainer_in_a_process_of_its_own() -> None:
    name = "mlm_conformance.mutants.trainer:correct_trainer"
    with TargetProcess(name) as target:
        context = Context(target, ORACLE, frozenset(target.hello().claims), None)
        case = TrainingRecipe(SIZES[1], "packed", "uneven", "everywhere", 1, updates=2).build(0)
        for name in ("gradients_are_those_of_the_loss", "a_checkpoint_brings_everything_back"):
            READY[name].judge(context, case)
        assert context.worst is not None
        assert 0.0 < context.worst.ratio <= 1.0


def test_other_micro_batches_have_the_same_sequences() -> None:
    case = TrainingRecipe(SIZES[1], "packed", "even", "none", 1).build(0)
    batch, rng = case.updates[0][0], np.random.default_rng(0)
    limits = {"inputs": 31, "targets": 31, "token_type_ids": 2, "position_ids": 24}
    real = batch["attention_mask"]
    for other in (repadded(batch, rng, limits), widened(batch, 2), unpacked(batch)):
        seen = other["attention_mask"]
        for name in batch:
            flat = sorted(map(str, other[name][seen].tolist()))
            assert flat == sorted(map(str, batch[name][real].tolist())), name
    assert any((repadded(batch, rng, limits)[n] != batch[n]).any() for n in limits)
    assert len(unpacked(batch)["inputs"]) > len(batch["inputs"])
    assert [len(b["inputs"]) for b in resplit(case.updates[0], 3)] == [2, 1, 1]


def test_equal_recipes_make_equal_cases_and_no_sequence_twice() -> None:
    recipe = TrainingRecipe(SIZES[1], "packed", "uneven", "hidden", 9, updates=3)
    one, two = recipe.build(4), recipe.build(4)
    assert one.encoder == two.encoder
    assert one.training == two.training
    assert all(np.array_equal(v, two.parameters[n]) for n, v in one.parameters.items())
    batches = [b for update in one.updates for b in update]
    ids = [
        b["sequence_id"][row][b["attention_mask"][row]]
        for b in batches
        for row in range(len(b["inputs"]))
    ]
    each = [tuple(x) for row in ids for x in np.unique(row, axis=0)]
    assert len(each) == len(set(each))
    assert any(high for _, high in each)


def test_a_case_goes_to_a_file_and_back() -> None:
    case = TrainingRecipe(SIZES[1], "padded", "even", "everywhere", 1, updates=2).build(0)
    again = decode_case(json.loads(json.dumps(encode_case(case))))
    assert encode_case(again) == encode_case(case)
    assert again.plan == case.plan
    assert again.updates[1][0]["sequence_id"].dtype == np.uint32


def test_a_failing_case_is_made_small() -> None:
    case = TrainingRecipe(SIZES[2], "packed", "even", "everywhere", 1, updates=2).build(0)
    small, _ = simplify(case, "wrong", lambda other: "wrong", 10.0)
    assert small.config.num_hidden_layers == 0
    assert [len(b["inputs"]) for update in small.updates for b in update] == [1]
    judged_alone = Context(InProcessTarget(REFERENCE), ORACLE, frozenset({"session"}), None)
    READY["gradients_are_those_of_the_loss"].judge(judged_alone, small)


def test_broken_files_are_broken_in_one_way_each(tmp_path: Path) -> None:
    case = TrainingRecipe(SIZES[0], "full", "one", "none", 0).build(0)
    session(case.encoder, case.training, case.parameters).save(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    files = dict(broken(good, np.random.default_rng(0)))
    assert len(set(files.values())) == len(files)
    assert good not in files.values()
    (size,) = struct.unpack("<Q", files["a newer version"][:8])
    header = json.loads(files["a newer version"][8 : 8 + size])
    assert header["__metadata__"]["format"].endswith("/2")

"""The recorded run and the comparison of exported models: verdicts and reports, without peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlm_conformance import cli
from train_cases import small_command

from benchmarks import export, train

GOOD = {
    "complaints": {}, "texts": 3, "texts with the same ids": 3, "dtype": "float64",
    "sum": -12.5, "count": 4, "apart": 1e-16, "allowed": 1e-14,
}  # fmt: skip
WRONG = [
    {"apart": 1e-9},
    {"texts with the same ids": 2},
    {"complaints": {"missing_keys": ["cls.predictions.bias"]}},
]


def test_a_model_with_the_same_ids_and_the_same_score_is_what_was_trained() -> None:
    assert export.agrees(GOOD)


@pytest.mark.parametrize("change", WRONG, ids=["score", "ids", "names"])
def test_a_model_that_is_another_is_found(change: dict[str, Any]) -> None:
    assert not export.agrees(GOOD | change)


def test_the_activation_of_a_model_is_changed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"hidden_act": "gelu", "vocab_size": 3}', encoding="utf-8")
    export._change_activation(path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == {"hidden_act": "gelu_new", "vocab_size": 3}


def test_a_run_is_recorded_with_its_settings_and_its_curve(tmp_path: Path) -> None:
    assert cli.main(small_command(tmp_path, "--updates", "12", "--evaluate-every", "6")) == 0
    found = train.record(tmp_path / "run", "numpy", 90.0)
    assert found["settings"]["updates"] == 12
    assert len(found["losses"]) == 2  # ten of them, and two
    assert [entry["update"] for entry in found["evaluations"]] == [0, 6, 12]
    lines = train.report(found).splitlines()
    assert lines[1].startswith("1.5 minutes with reading, evaluating and saving; ")
    assert [line.split()[0] for line in lines[-3:]] == ["0", "6", "12"]
    last = found["evaluations"][-1]
    assert lines[-1].split()[1:3] == [f"{last['nats']:.4f}", f"{last['unigram']:.4f}"]


def test_no_path_of_the_machine_is_recorded_by_default() -> None:
    results = Path(train.RESULTS)
    for path in results.glob("train-*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["settings"]["text"] == []

"""The comparison of exported models, without its peer: which are trained, and the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import export

ROW = {
    "complaints": {},
    "texts": 3,
    "texts with the same ids": 3,
    "dtype": "float64",
    "sum": -1.5,
    "count": 2,
    "apart": 1e-16,
    "allowed": 1e-14,
}
FAR = ROW | {"apart": 1e-9}


@pytest.mark.parametrize(
    ("row", "good"),
    [
        (ROW, True),
        (FAR, False),
        (ROW | {"texts with the same ids": 2}, False),
        (ROW | {"complaints": {"missing_keys": ["cls.predictions.bias"]}}, False),
    ],
)
def test_a_model_agrees_in_its_score_its_ids_and_its_names(row: dict, good: bool) -> None:
    assert export.agrees(row) == good


def trained(run: Path, backend: str, precision: str) -> Path:
    (run / "model").mkdir(parents=True)
    told = {"backend": backend, "precision": precision, "hidden_act": "gelu"}
    (run / "model" / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return run


@pytest.mark.parametrize("fault", ["", "torch float32", export.WRONG])
def test_the_command_trains_in_every_backend_and_precision_and_fails_where_one_is_not_the_same(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def compared(run: Path, precision: str) -> dict:
        told = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
        wrong = told["hidden_act"] != "gelu"
        name = export.WRONG if wrong else f"{told['backend']} {precision}"
        asked.append(name)
        return FAR if wrong != (name == fault) else ROW

    monkeypatch.setattr(export, "_trained", trained)
    monkeypatch.setattr(export, "compare", compared)
    monkeypatch.setattr("sys.argv", ["export", "--results", str(tmp_path)])
    if fault:
        with pytest.raises(SystemExit, match="not what was trained"):
            export.main()
    else:
        export.main()
    runs = {f"{b} {p}" for b in ("numpy", "torch", "jax") for p in ("float64", "float32")}
    assert set(asked) == runs | {export.WRONG}
    assert (tmp_path / "export.txt").exists()

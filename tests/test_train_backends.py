"""``mlm-spec train`` with each backend: one text, order and masks, and one form of checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlm_conformance import cli
from mlm_conformance.train.folder import read_metrics
from train_cases import small_command

from mlm_spec.training.checkpoint import read_checkpoint


def facts(run: Path) -> list[tuple[object, ...]]:
    """What of each line does not depend on the arithmetic."""
    names = ("kind", "update", "count", "position", "tokens", "unigram")
    return [tuple(e.get(name) for name in names) for e in read_metrics(run / "metrics.jsonl")]


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_is_the_same_in_every_backend_and_goes_on_in_another(
    backend: str, tmp_path: Path
) -> None:
    runs = {}
    for name in ("numpy", backend):
        (tmp_path / name).mkdir()
        assert cli.main(small_command(tmp_path / name, "--dropout", "1/10", backend=name)) == 0
        runs[name] = tmp_path / name / "run"
    assert facts(runs[backend]) == facts(runs["numpy"])
    state = read_checkpoint(runs[backend] / "checkpoint.safetensors").state
    assert (state.update, state.position) == (6, 24)
    resumed = ["train", "--backend", "numpy", "--out", str(runs[backend]), "--resume"]
    assert cli.main(resumed) == 0

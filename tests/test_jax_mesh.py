"""An update that is shared out over a mesh of devices is the update of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from mesh_run import MESHES
from mlm_jax.mesh import MeshPort
from mlm_jax.training.layout import AXES, Layout
from mlm_jax.training.parameters import OUTPUT_BIAS, WORDS

from mlm_spec.errors import DeviceError

CHECKED = ("MLM-ENC-12", "MLM-ENC-13", "MLM-TRN-3", "MLM-TRN-12", "MLM-CKP-1")


def test_updates_on_meshes_of_any_shape_are_within_their_balls() -> None:
    command = [sys.executable, str(Path(__file__).with_name("mesh_run.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["devices"] == 8
    assert len(found["meshes"]) == len(MESHES)
    for (rows, ids), mesh in zip(MESHES, found["meshes"].values(), strict=True):
        assert mesh["outside"] == []
        assert len(set(mesh["counts"])) == 1
        part, whole = mesh["ids"]
        assert part * ids == whole == -(-31 // ids) * ids
        part, whole = mesh["rows"]
        assert part * rows == whole


def test_the_suite_passes_a_session_on_a_mesh(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlm_conformance", "check", "mlm_jax.mesh:MeshPort"]
    command += ["--profile", "quick", "--json", "report.json", "--only", *CHECKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    outcomes = json.loads((tmp_path / "report.json").read_text("utf-8"))["counts"]
    assert outcomes["pass"] == len(CHECKED)


def test_a_table_is_filled_up_and_cut_again() -> None:
    layout = Layout(Mesh(np.array(jax.devices()[:1]).reshape(1, 1), AXES), vocab_size=5)
    layout.vocabulary = 8  # as if there were more devices
    given = {WORDS: np.ones((5, 3)), OUTPUT_BIAS: np.ones(5), "other": np.ones(5)}
    placed = layout.parameters(given)
    assert [placed[name].shape for name in given] == [(8, 3), (8,), (5,)]
    assert not placed[WORDS][5:].any()
    again = layout.on_host(placed)
    assert all(np.array_equal(again[name], given[name]) for name in given)


def test_a_mesh_with_other_axes_is_refused() -> None:
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("rows", "ids"))
    with pytest.raises(DeviceError, match=r"axes \('rows', 'ids'\); expected the axes"):
        Layout(mesh, 5)


def test_too_few_devices_are_refused() -> None:
    assert len(jax.devices("cpu")) < 8  # this process has used JAX before
    with pytest.raises(DeviceError, match=r"device is \d of cpu; expected 8 devices"):
        MeshPort()

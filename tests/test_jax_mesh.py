"""An update that is shared out over a mesh of devices is the update of one.

That it is so on meshes of any shape is what the suite checks (test_compile_budget.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from mlm_jax.port import JaxPort
from mlm_jax.training.layout import Layout, make_mesh
from mlm_jax.training.parameters import OUTPUT_BIAS, WORDS

from mlm_spec.errors import DeviceError, InputError


def test_an_update_on_a_mesh_is_within_its_balls_and_lies_on_all_devices() -> None:
    command = [sys.executable, str(Path(__file__).with_name("mesh_run.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["devices"] == 8
    assert found["outside"] == []
    assert len(set(found["counts"])) == 1
    assert found["ids"] == [8, 32]  # 31 of them
    assert found["rows"] == [2, 4]
    assert found["compiled"] == []  # another update is one of the same programs


def test_a_table_is_filled_up_and_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "vocabulary", 8)  # as if there were more devices
    layout = Layout(make_mesh(jax.devices(), 1, 1), vocab_size=5)
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


def opened(rows: int, ids: int) -> Any:
    return JaxPort().device_session({}, {}, {}, None, rows, ids)


def test_too_few_devices_are_refused() -> None:
    found = len(jax.devices("cpu"))
    with pytest.raises(DeviceError, match=rf"device is {found} of cpu; expected {found + 1} dev"):
        opened(found + 1, 1)


@pytest.mark.parametrize(("rows", "ids", "name"), [(0, 1, "rows"), (1, 0, "ids")])
def test_an_axis_without_devices_is_refused(rows: int, ids: int, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0; expected 1 or more devices"):
        opened(rows, ids)

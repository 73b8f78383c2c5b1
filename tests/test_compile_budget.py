"""A whole check makes a compiling backend compile few programs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from mlm_conformance.checks import CHECKS
from mlm_conformance.profiles import PROFILES

from mlm_spec import text

#: Of the objective, where a program takes a third of a second to compile and a check of this
#: profile may take 90, and of training, where one takes a second and a check may take 300; on
#: devices about half of them place an array.
BUDGETS = {"objective": 110, "training": 80, "devices": 65}
CHAPTERS = tuple(f"MLM-{chapter}" for chapter in PROFILES["quick"].left_out)
SESSIONS, DEVICES, REPLICAS = (
    {check.requirement for check in CHECKS if check.port == port}
    for port in ("session", "device_session", "replica_session")
)

COUNT = """
import json, sys
from jax import monitoring

programs = []

def listen(event, duration, **details):
    if event.endswith("backend_compile_duration"):
        programs.append(str(details.get("fun_name")))

monitoring.register_event_duration_secs_listener(listen)
from mlm_conformance.runner import run

report = run("jax", profile="ci", only=sys.argv[1:], in_process=True)
print(json.dumps({"programs": programs, "exit_status": report.exit_status}))
"""


@pytest.mark.parametrize("part", BUDGETS)
def test_a_check_of_jax_compiles_few_programs(part: str) -> None:
    ids = [r.id for r in text.load() if not r.id.startswith(CHAPTERS)]
    training = [*CHAPTERS, *(id for id in ids if id in SESSIONS)]
    rest = [id for id in ids if id not in SESSIONS | DEVICES | REPLICAS]
    only = {"objective": rest, "training": training, "devices": sorted(DEVICES)}[part]
    command = [sys.executable, "-c", COUNT, *only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["exit_status"] == 0
    assert 10 < len(found["programs"]) <= BUDGETS[part], found["programs"]

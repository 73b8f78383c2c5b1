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
#: profile may take 90, and of training, where one takes a second and a check may take 300.
BUDGETS = {"objective": 110, "training": 80}
QUICK = PROFILES["quick"]
ELSEWHERE = sorted({check.requirement for check in CHECKS if check.port in QUICK.left_out_ports})
TRAINING = (*(f"MLM-{chapter}" for chapter in QUICK.left_out), *ELSEWHERE)

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
    every = [requirement.id for requirement in text.load()]
    rest = [id for id in every if not f"{id}-".startswith(tuple(f"{name}-" for name in TRAINING))]
    only = TRAINING if part == "training" else rest
    command = [sys.executable, "-c", COUNT, *only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["exit_status"] == 0
    assert 10 < len(found["programs"]) <= BUDGETS[part], found["programs"]

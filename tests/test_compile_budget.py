"""A whole check makes a compiling backend compile few programs."""

from __future__ import annotations

import json
import subprocess
import sys

#: A program takes a third of a second to compile, and a whole check of this profile may take 90.
BUDGET = 110

COUNT = """
import json, sys
from jax import monitoring

programs = []

def listen(event, duration, **details):
    if event.endswith("backend_compile_duration"):
        programs.append(str(details.get("fun_name")))

monitoring.register_event_duration_secs_listener(listen)
from mlm_conformance.runner import run

report = run("jax", profile=sys.argv[1], in_process=True)
print(json.dumps({"programs": programs, "exit_status": report.exit_status}))
"""


def test_a_whole_check_of_jax_compiles_few_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, "ci"], capture_output=True, text=True, timeout=600, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["exit_status"] == 0
    assert 10 < len(found["programs"]) <= BUDGET, found["programs"]

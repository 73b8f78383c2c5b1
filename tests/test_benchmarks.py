"""The instruments of benchmarks/ measure what they say.  No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from benchmarks import device, masking, measure, memory

LINUX = sys.platform == "linux"
MEGABYTE = 2**20


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_ratio_is_taken_within_each_round() -> None:
    results = {"a": {"seconds": [2.0, 6.0]}, "b": {"seconds": [1.0, 2.0]}, "c": {"not_run": "x"}}
    assert measure.ratio(results, "a", "b") == [2.0, 3.0]
    assert measure.ratio(results, "a", "c") is None


def test_a_spread_is_the_median_with_both_ends() -> None:
    assert measure.spread([3.0, 1.0, 2.0]) == "2.00 (1.00..3.00)"
    assert measure.spread(None) == "not run"


def test_results_in_which_nothing_ran_are_told_apart() -> None:
    assert measure.nothing_ran({"a": {"not_run": "not installed: x"}})
    assert not measure.nothing_ran({"a": {"not_run": "x"}, "b": {"seconds": [1.0]}})


def test_masks_that_differ_are_refused() -> None:
    one = {"seconds": [1.0], "selected": 7, "checksum": 1}
    masking.require_equal_masks({"mlm_spec (numpy)": one, "mlm_torch.mask": dict(one)})
    with pytest.raises(RuntimeError, match="the masks differ"):
        masking.require_equal_masks(
            {"mlm_spec (numpy)": one, "mlm_torch.mask": one | {"checksum": 2}}
        )


def test_the_peak_of_a_call_is_what_it_touched() -> None:
    peak = memory.peak_of_call(lambda: bytearray(b"x") * (64 * MEGABYTE))
    assert (peak is not None) == LINUX
    # The kernel adds pages to its counters in batches, so some may be missing at either end.
    assert peak is None or 63 * MEGABYTE <= peak < 96 * MEGABYTE


def test_the_peak_of_a_program_counts_its_children() -> None:
    child = "import time; x = bytearray(b'x') * (96 << 20); time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print(5)"
    status, seconds, peak, output = memory.run_and_watch([sys.executable, "-c", parent])
    assert (status, output) == (0, "5\n")
    assert seconds > 1
    assert (peak is not None) == LINUX
    assert peak is None or peak >= 96 * MEGABYTE


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"torch": 0, "jax": 0}, 0),
        ({"torch": 0, "jax": 3}, 3),
        ({"torch": 3, "jax": 1}, 1),
        ({"torch": 3, "jax": 2}, 2),
        ({"torch": -9, "jax": 0}, 2),
        ({}, 2),
    ],
)
def test_a_device_run_is_good_only_if_all_of_it_ran(
    statuses: dict[str, int], expected: int
) -> None:
    assert device.verdict(statuses) == expected


def test_a_benchmark_writes_its_table_and_its_raw_times(tmp_path: Path) -> None:
    sizes = ("--rows", "2", "--columns", "16", "--rounds", "3", "--inner", "1")
    only = ("--only", "mlm_spec (numpy)", "HF torch_mask_tokens")
    done = run("masking", *sizes, *only, "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masking.txt").read_text(encoding="utf-8") == done.stdout
    record = json.loads((tmp_path / "masking.json").read_text(encoding="utf-8"))
    assert len(record["results"]["mlm_spec (numpy)"]["seconds"]) == 3
    assert record["settings"]["rows"] == 2
    assert "mlm_spec (numpy)" in done.stdout


def test_a_benchmark_in_which_nothing_ran_does_not_succeed(tmp_path: Path) -> None:
    arguments = ("--only", "mlm_spec (numpy)", "--device", "cuda", "--results", str(tmp_path))
    done = run("masking", *arguments)
    assert done.returncode == 3, done.stderr
    assert "not run: NumPy has no device" in done.stdout

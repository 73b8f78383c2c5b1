"""A plugin of pytest, for the run of one mutant: the tests most likely to fail come first.

mutmut hands over the tests that reach the mutated function in no order, and stops at the first
that fails.  Those made for its module go before the rest, the quickest first.  How long each takes
mutmut has noted in its own statistics.  While it notes which test reaches which function, every
test begins with empty caches: what an earlier one has filled would hide what a later one reaches.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

__all__ = ["FIRST", "pytest_collection_modifyitems", "pytest_runtest_setup", "rank"]

#: The tests made for a module, by what their names contain.  All others follow.
FIRST: dict[str, tuple[str, ...]] = {
    "random_words": ("test_random_words", "mask_messages", "_transcription", "RNG"),
    "thresholds": ("_transcription", "reference_masks", "mask_messages", "RNG"),
    "selection": ("reference_masks", "_transcription", "_presets", "SEL", "_edges"),
    "corruption": ("reference_masks", "_transcription", "_presets", "COR", "_edges"),
    "masking": ("mask_messages", "_transcription", "SEL", "COR", "ERR"),
    "policy": ("test_policy", "policy_messages", "bad_policies", "_presets"),
    "presets": ("_presets",),
    "objective": ("score_messages", "reference_loss", "OBJ", "ERR"),
    "likelihood": ("reference_likelihood", "LIK", "GRA", "OBJ", "verify_reference"),
    "loss": ("score_messages", "reference_loss", "loss", "OBJ"),
    "head": ("score_messages", "reference_loss", "HED", "ERR"),
    "step": ("score_messages", "reference_loss", "step", "ERR"),
    "checking": ("_messages", "bad_calls", "ERR"),
    "errors": ("_messages", "ERR"),
    "text": ("tests/test_text", "_transcription"),
    "port": ("mask_messages", "RNG", "_messages"),
    "exact.rounding": ("exact_rounding", "exact_messages"),
    "exact.decimals": ("exact_rounding", "exact_values"),
    "exact.powers": ("exact_powers", "exact_sums", "exact_values"),
    "exact.quick": ("exact_quick", "exact_totals"),
    "exact.gradient": ("exact_gradient", "exact_messages", "exact_values"),
    "exact.likelihood": ("exact_sums", "exact_messages", "exact_values", "exact_totals"),
}

_STATISTICS = Path("mutmut-stats.json")  # pytest runs in mutmut's folder `mutants`


def rank(nodeid: str, module: str) -> int:
    """How many groups of tests go before this one."""
    made_for_it = FIRST.get(module, ())
    return next((i for i, part in enumerate(made_for_it) if part in nodeid), len(made_for_it))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not _STATISTICS.exists():
        return
    seconds = json.loads(_STATISTICS.read_text("utf-8"))["duration_by_test"]
    mutant = os.environ.get("MUTANT_UNDER_TEST", "").removeprefix("mlm_spec.")
    module = mutant.rpartition(".x")[0]
    items.sort(key=lambda item: (rank(item.nodeid, module), seconds.get(item.nodeid, 0.0)))


def pytest_runtest_setup() -> None:
    if os.environ.get("MUTANT_UNDER_TEST") != "stats":
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("mlm_spec."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()

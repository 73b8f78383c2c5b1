"""Chapter CKP: checkpoints.

Most checks need no more than one update of one encoder, so a compiling backend compiles little.
"""

from __future__ import annotations

from mlm_conformance.cases.training import SIZES, TrainingRecipe, training_recipes
from mlm_conformance.check import CHECKS, Recipes
from mlm_conformance.checks import (
    training_checkpoints,
    training_files,
    training_refusals,
    training_relay,
    training_saving,
)

__all__ = ["ONE", "RUNS"]

#: Packed rows, other units dropped in each update; what is drawn has the same shapes.
RUNS: Recipes = (
    training_recipes(sizes=SIZES[1:2], splits=("one",), dropouts=("everywhere",), updates=3)[0],
    (TrainingRecipe(SIZES[1], "packed", "one", "everywhere", 2, updates=3),),
)
_ONCE: Recipes = (None, RUNS[1])
ONE: Recipes = (None, (TrainingRecipe(SIZES[1], "packed", "one", "none", 1, updates=2),))

_READY = {
    ready.name: ready
    for module in (
        training_checkpoints,
        training_files,
        training_refusals,
        training_relay,
        training_saving,
    )
    for ready in module.READY
}

#: The checks of each requirement, and the cases they are for; None: those of the judgement.
_CHAPTER: dict[str, dict[str, Recipes | None]] = {
    "MLM-CKP-1": {
        "a_checkpoint_brings_everything_back": RUNS,
        "a_resumed_run_is_the_uninterrupted_one": _ONCE,
        "the_relay_goes_on_from_others": _ONCE,
        "a_relay_is_one_run": _ONCE,
        "what_was_loaded_is_saved_again": None,
    },
    "MLM-CKP-2": {
        "a_checkpoint_has_the_documented_form": ONE,
        "a_checkpoint_says_how_it_is_masked": ONE,
    },
    "MLM-CKP-3": {
        "the_checksum_is_that_of_everything_else": ONE,
        "the_order_in_a_file_does_not_matter": ONE,
    },
    "MLM-CKP-4": {
        "a_save_leaves_the_file_before_it_alone": None,
        "no_moment_is_without_a_checkpoint": None,
    },
    "MLM-CKP-5": {
        "a_checkpoint_that_cannot_be_written_is_an_error": None,
        "a_disk_that_is_full_is_an_error": None,
    },
    "MLM-CKP-6": {"a_broken_checkpoint_is_refused": None},
    "MLM-CKP-7": {
        "a_checkpoint_of_something_else_is_refused": None,
        "a_checkpoint_of_another_run_is_refused": None,
        "a_checkpoint_of_another_policy_is_refused": None,
    },
    "MLM-CKP-8": {
        "nothing_that_a_file_claims_is_believed": None,
        "nothing_in_a_file_is_executed": None,
        "a_file_takes_no_more_memory_than_it_has": None,
    },
}

CHECKS += [
    _READY[name].check(requirement, recipes)
    for requirement, checks in _CHAPTER.items()
    for name, recipes in checks.items()
]

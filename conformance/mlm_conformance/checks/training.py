"""Chapter TRN: what one update learns from, and what a run is; and where it has no numbers."""

from __future__ import annotations

from typing import Any

from mlm_conformance.cases.training import SIZES, training_recipes
from mlm_conformance.cases.training_precision import narrow_recipes
from mlm_conformance.check import CHECKS, Recipes
from mlm_conformance.checks import (
    training_gradients,
    training_overflow,
    training_precision,
    training_runs,
    training_updates,
)

__all__: list[str] = []  # importing the module registers its checks

_MODULES = (
    training_gradients,
    training_updates,
    training_runs,
    training_precision,
    training_overflow,
)
_READY = {ready.name: ready for module in _MODULES for ready in module.READY}


def _recipes(
    dropout: str = "none", splits: Any = ("uneven", "one of none"), **about: Any
) -> Recipes:
    """One encoder and few shapes, so that a compiling backend compiles few programs."""
    return training_recipes(("packed", "padded"), splits, (dropout,), SIZES[1:2], **about)


_STILL, _DROPPED = _recipes(), _recipes("everywhere")
_TWENTY: Recipes = (None, _recipes("everywhere", updates=20)[1][:1])
_TOKENS = training_recipes(("packed", "padded"), ("one",), ("none",), SIZES[:1])
_HALF = narrow_recipes(updates=2, precisions=("float16",))

_TABLE: tuple[tuple[str, str, Recipes | None], ...] = (
    ("MLM-TRN-1", "gradients_are_those_of_the_loss", _STILL),
    ("MLM-TRN-1", "the_loss_is_one_mean", _STILL),
    ("MLM-TRN-2", "an_update_clips_once", _recipes(max_grad_norm=0.5)),
    ("MLM-TRN-3", "the_split_of_an_update_does_not_matter", _DROPPED),
    ("MLM-TRN-4", "an_update_of_nothing_changes_nothing", _STILL),
    ("MLM-TRN-4", "a_micro_batch_of_nothing_is_no_update_of_nothing", _STILL),
    ("MLM-TRN-5", "an_update_that_is_not_finite_changes_nothing", None),
    ("MLM-TRN-6", "one_number_counts_the_updates", _recipes("everywhere", updates=3)),
    ("MLM-TRN-6", "twenty_updates_follow_one_by_one", _TWENTY),
    ("MLM-TRN-7", "evaluation_drops_nothing", _DROPPED),
    ("MLM-TRN-7", "evaluation_and_gradients_change_nothing", _DROPPED),
    ("MLM-TRN-8", "what_is_kept_is_kept_in_float32", None),
    ("MLM-TRN-8", "a_run_scatters_no_more_than_rounding", None),
    ("MLM-TRN-8", "a_session_keeps_its_own_parameters", _STILL),
    ("MLM-TRN-9", "an_overflow_halves_the_scale", None),
    ("MLM-TRN-9", "the_scale_doubles_with_every_2000th_update", None),
    ("MLM-TRN-9", "the_scale_is_never_below_1", None),
    ("MLM-TRN-9", "a_run_scatters_no_more_than_rounding", _HALF),
    ("MLM-TRN-11", "an_update_takes_its_sequences_along", _recipes(updates=2)),
    ("MLM-TRN-12", "tokens_are_masked_inside", _TOKENS),
    ("MLM-ERR-23", "what_is_no_number_is_no_sum", None),
)

for _requirement, _name, _cases in _TABLE:
    CHECKS.append(_READY[_name].check(_requirement, _cases))

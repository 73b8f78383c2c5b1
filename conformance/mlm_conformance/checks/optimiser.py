"""Chapter OPT: what one update does to the parameters.

Each requirement has a plan in which its fault shows and those of others do not: moments without
decay, steps without clipping and with an ε that nothing feels, and so on.
"""

from __future__ import annotations

from typing import Any

from mlm_conformance.cases.training import SIZES, training_recipes
from mlm_conformance.cases.training_plans import planned
from mlm_conformance.check import CHECKS, Recipes
from mlm_conformance.checks import training_runs, training_updates

__all__: list[str] = []  # importing the module registers its checks

_READY = {
    ready.name: ready for module in (training_updates, training_runs) for ready in module.READY
}


def _recipes(
    updates: int = 1,
    max_grad_norm: float | None = None,
    schedule: str = "constant",
    size: tuple[int, int, int, int, int] = SIZES[1],
    **plan: Any,
) -> Recipes:
    """One encoder and one shape, so that a compiling backend compiles one program; one micro-batch,
    so that nothing is told of sums; at the full rate from the first update on."""
    steady = {"warmup_updates": 1, "weight_decay": 0.0} | plan
    about = {"updates": updates, "max_grad_norm": max_grad_norm, "schedule": schedule}
    recipes = training_recipes(("packed", "padded"), ("one",), ("none",), (size,), **about)
    return planned(recipes, **steady)


_LINE = _recipes(schedule="linear")
# Without attention no gradient is 0 but for those that are so exactly, and ε need not hide any.
_SHARP = _recipes(updates=3, size=SIZES[0], epsilon=1e-30)

_TABLE = (
    ("MLM-OPT-1", "moments_follow_their_averages", _recipes(updates=2, max_grad_norm=0.5)),
    ("MLM-OPT-2", "updates_follow_one_by_one", _SHARP),
    ("MLM-OPT-3", "the_norm_is_that_of_all_parameters", _recipes()),
    ("MLM-OPT-4", "clipping_scales_to_the_limit", _recipes(max_grad_norm=0.5)),
    ("MLM-OPT-4", "clipping_leaves_small_gradients", _recipes()),
    ("MLM-OPT-5", "the_first_update_is_that_of_adamw", _recipes(epsilon=1e-2)),
    (
        "MLM-OPT-6",
        "the_first_update_is_that_of_adamw",
        _recipes(weight_decay=2.0, warmup_updates=3),
    ),
    ("MLM-OPT-7", "vectors_do_not_decay", _recipes()),
    ("MLM-OPT-8", "the_rate_rises_in_the_warm_up", _LINE),
    ("MLM-OPT-9", "the_rate_falls_or_stays", _LINE),
    ("MLM-OPT-10", "a_plan_that_has_ended_is_an_error", _LINE),
)

for _requirement, _name, _cases in _TABLE:
    CHECKS.append(_READY[_name].check(_requirement, _cases))

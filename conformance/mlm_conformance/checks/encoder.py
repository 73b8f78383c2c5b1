"""Chapter ENC: the encoder, and the gradient of every parameter.

Each requirement is judged on cases in which its part decides (`cases.training_parts`), or by what
needs no reference, so that one mistake does not fail all of them.
"""

from __future__ import annotations

from dataclasses import replace

from mlm_conformance.cases.training import SIZES, TrainingRecipe, training_recipes
from mlm_conformance.cases.training_parts import part_recipes
from mlm_conformance.cases.training_precision import LONG, NARROW, narrow_recipes
from mlm_conformance.check import CHECKS, Recipes, table
from mlm_conformance.checks import training_gradients, training_parts, training_precision

__all__: list[str] = []

_READY = {
    ready.name: ready
    for module in (training_gradients, training_parts, training_precision)
    for ready in module.READY
}
#: One case is drawn in ci.
_SHARE = 0.04
_NONE, _EVERYWHERE = ("none",), ("everywhere",)


def _base(layout: str, split: str, dropout: str = "none", size: int = 1) -> TrainingRecipe:
    return TrainingRecipe(SIZES[size], layout, split, dropout, 1)


def _some(dropouts: tuple[str, ...], *always: TrainingRecipe) -> Recipes:
    """These, and draws of the same dropouts of a small encoder."""
    return training_recipes(dropouts=dropouts, sizes=SIZES[1:2])[0], always


def _judge(number: int, name: str, recipes: Recipes, *needs: str) -> None:
    """Register a judgement; ``needs``, where given, are others than usual."""
    ready = _READY[name]
    known = replace(ready, needs=needs or ready.needs, share=_SHARE)
    CHECKS.append(known.check(f"MLM-ENC-{number}", recipes))


def _gradients(number: int, part: str, layers: int) -> None:
    """All gradients, where a part decides."""
    name = "gradients_are_those_of_the_loss"
    _judge(number, name, part_recipes(part, layers), "selected")


_EVEN = _base("padded", "even")
_DROPPED = _base("packed", "even", "everywhere")
_LAYERS = _base("padded", "even", "everywhere", size=3)
_PRECISIONS = narrow_recipes(precisions=tuple(NARROW))
_BARE = _base("full", "one", size=0)

_judge(1, "parameters_have_names_and_shapes", table([_EVEN]))
_judge(1, "a_column_belongs_to_an_input", part_recipes("unit 0", 1))
_gradients(2, "embeddings", 0)
_gradients(3, "norms", 0)
_gradients(4, "activations", 1)
_gradients(5, "attention", 1)
_judge(6, "every_position_sees_every_other", table([_base("full", "one")]))
_judge(7, "padding_is_not_seen", _some(_NONE, _EVEN, _base("packed", "even")))
_judge(8, "packed_sequences_do_not_see_each_other", table([_base("packed", "even")]))
_gradients(9, "layers", 1)
_gradients(10, "output bias", 0)
_judge(11, "words_have_the_gradients_of_both_uses", part_recipes("equal rows", 0))
_judge(12, "gradients_are_those_of_the_loss", _some(_NONE, _EVEN, _BARE, _base("packed", "uneven")))
_judge(12, "losses_and_gradients_scatter_no_more_than_rounding", _PRECISIONS)
_judge(12, "a_long_sum_keeps_its_digits", narrow_recipes(rows=LONG))
_judge(13, "micro_batches_do_not_matter", _some(_EVERYWHERE, _DROPPED))
_judge(13, "rows_have_no_order", table([_DROPPED]))
_judge(14, "evaluation_drops_nothing", _some(_EVERYWHERE, _DROPPED))
_judge(14, "nothing_is_dropped_at_probability_0", table([_BARE]))
_judge(15, "dropout_follows_its_stream", table([_DROPPED]))
_judge(16, "dropout_follows_its_stream", _some(_EVERYWHERE, _LAYERS))
_judge(16, "units_go_with_their_sequence", table([_DROPPED]))
_judge(17, "nothing_selected_has_no_gradient", table([_EVEN, _BARE]))

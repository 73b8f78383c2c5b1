"""Cases for sessions below float64: encoders at which a narrow dtype shows in every result.

Adam divides by the root of the second moment: of a gradient that is noise it makes full steps, of
either sign, and what scatters so says nothing of arithmetic.  Here ε is about as large as the
gradients, and a step follows its gradient smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe

__all__ = ["LONG", "NARROW", "PrecisionRecipe", "narrow_recipes", "overflowing_recipes"]

#: Unit roundoff of the factors of products, beside that of sums; of float32 it is the same.
NARROW = {"float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-11}
#: Rows of a batch whose loss adds up some thousand terms.
LONG = 80
_SMOOTH = {"epsilon": 0.05, "learning_rate": 1e-3, "beta1": 0.99, "total_updates": 2000}
#: So much that a gradient times 2¹⁶ overflows float16 wherever it is multiplied.
_LOUD = 4096.0
_GAIN = "cls.predictions.transform.LayerNorm.weight"


@dataclass(frozen=True, slots=True)
class PrecisionRecipe:
    """A `TrainingRecipe` at a precision."""

    base: TrainingRecipe
    precision: str
    is_loud: bool = False

    def build(self, run_seed: int) -> TrainingCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.base.build(run_seed)
        parameters = dict(case.parameters)
        if self.is_loud:
            parameters[_GAIN] = parameters[_GAIN] * _LOUD
        training = {**case.training, **_SMOOTH, "precision": self.precision}
        about = f"{case.about}, {self.precision}"
        return replace(case, training=training, parameters=parameters, about=about)


def narrow_recipes(
    updates: int = 1, rows: int = 4, precisions: tuple[str, ...] = ("float32", "bfloat16")
) -> tuple[None, tuple[PrecisionRecipe, ...]]:
    """The recipes at each precision; one encoder, so that a compiling backend compiles little."""
    layout, split, size = ("padded", "even", SIZES[1]) if rows == 4 else ("full", "one", SIZES[0])
    recipes = (
        PrecisionRecipe(
            TrainingRecipe(size, layout, split, "hidden", 1, updates=updates, rows=rows), name
        )
        for name in precisions
    )
    return None, tuple(recipes)


def overflowing_recipes() -> tuple[None, tuple[PrecisionRecipe, ...]]:
    """In float16, from a scale that is too high."""
    base = TrainingRecipe(SIZES[1], "padded", "even", "hidden", 1, updates=2)
    return None, (PrecisionRecipe(base, "float16", is_loud=True),)

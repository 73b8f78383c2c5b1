"""What must pass: correct backends, by name and target."""

from __future__ import annotations

from dataclasses import dataclass

from mlm_conformance.variants.layers import LAYERS
from mlm_conformance.variants.masking import MASKING
from mlm_conformance.variants.scoring import SCORING

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One correct backend.

    Attributes
    ----------
    name : its name.
    target : as ``mlm-spec check`` takes it.
    only : the requirements that it is about, by prefix; empty: all.
    """

    name: str
    target: str
    only: tuple[str, ...] = ()


_NUMBERS = ("MLM-OBJ", "MLM-LIK", "MLM-GRA")
_MASKS = ("MLM-RNG", "MLM-SEL", "MLM-COR", "MLM-OBJ", "MLM-ERR")
_LAYERS = ("MLM-HED", "MLM-LIK", "MLM-OBJ", "MLM-ERR")

VARIANTS: tuple[Variant, ...] = (
    *(Variant(name, f"mlm_conformance.variants.scoring:{name}", _NUMBERS) for name in SCORING),
    *(Variant(name, f"mlm_conformance.variants.masking:{name}", _MASKS) for name in MASKING),
    *(Variant(name, f"mlm_conformance.variants.layers:{name}", _LAYERS) for name in LAYERS),
    *(
        Variant(f"reference_{name}", f"mlm_conformance.mutants.correct:{name}")
        for name in ("with_sum", "with_mean", "with_num_items")
    ),
)

"""What must pass: correct backends, by name and target."""

from __future__ import annotations

from dataclasses import dataclass

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

VARIANTS: tuple[Variant, ...] = (
    *(Variant(name, f"mlm_conformance.variants.scoring:{name}", _NUMBERS) for name in SCORING),
    *(
        Variant(f"reference_{name}", f"mlm_conformance.mutants.correct:{name}")
        for name in ("with_sum", "with_mean", "with_num_items")
    ),
)

"""Chapter ERR, policies: backends that take what is no policy, or refuse what is one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mlm_conformance.mutants.registry import mutant
from mlm_spec import Corruption, MaskingPolicy, PolicyError

__all__ = [
    "a_law_of_any_name_is_bernoulli",
    "a_list_for_a_pool_is_sorted",
    "a_pool_of_one_is_refused",
    "a_wrong_policy_is_any_error",
    "floats_are_probabilities",
    "kinds_need_not_add_up",
    "the_normal_form_is_none",
    "unknown_fields_are_dropped",
]


def _normal(fields: Mapping[str, Any]) -> dict[str, Any]:
    return MaskingPolicy.from_mapping(fields).to_mapping()


def _exact(value: Any) -> Any:
    """Floats as the fractions that their digits say."""
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return str(Fraction(str(value))) if isinstance(value, float) else value


@mutant("MLM-ERR-7", "policy")
def floats_are_probabilities(fields: Mapping[str, Any]) -> Any:
    """A probability may be a float."""
    return _normal(_exact(dict(fields)))


@mutant("MLM-ERR-7", "policy")
def unknown_fields_are_dropped(fields: Mapping[str, Any]) -> Any:
    """A field that no policy has is not looked at."""
    known = ("selection", "corruption", "vocab_size", "mask_id", "pad_id", "special_ids", "pool")
    return _normal({name: value for name, value in fields.items() if name in known})


@mutant("MLM-ERR-7", "policy")
def kinds_need_not_add_up(fields: Mapping[str, Any]) -> Any:
    """What the three weights lack to 1 is kept."""
    kinds = fields.get("corruption")
    if isinstance(kinds, dict) and all(isinstance(kinds.get(n), str) for n in ("mask", "random")):
        try:
            Corruption(kinds["mask"], kinds["random"], kinds["keep"])
        except PolicyError as error:
            if error.where == "corruption":
                rest = 1 - Fraction(kinds["mask"]) - Fraction(kinds["random"])
                return _normal({**fields, "corruption": {**kinds, "keep": str(rest)}})
    return _normal(fields)


@mutant("MLM-ERR-7", "policy")
def a_list_for_a_pool_is_sorted(fields: Mapping[str, Any]) -> Any:
    """A pool may be in any order, and an id in it twice."""
    pool = fields.get("pool")
    if isinstance(pool, list) and all(isinstance(i, int) for i in pool):
        return _normal({**fields, "pool": sorted(set(pool))})
    return _normal(fields)


@mutant("MLM-ERR-7", "policy", raises="ValueError")
def a_wrong_policy_is_any_error(fields: Mapping[str, Any]) -> Any:
    """A wrong policy raises a plain ValueError."""
    try:
        return _normal(fields)
    except PolicyError as error:
        raise ValueError(str(error)) from None


@mutant("MLM-ERR-7", "policy")
def a_law_of_any_name_is_bernoulli(fields: Mapping[str, Any]) -> Any:
    """A law that is not known is taken for the Bernoulli law."""
    law = fields.get("selection")
    if isinstance(law, dict) and law.get("law") not in ("fixed_count", "whole_word", "span"):
        return _normal({**fields, "selection": {**law, "law": "bernoulli"}})
    return _normal(fields)


@mutant("MLM-ERR-7", "policy")
def a_pool_of_one_is_refused(fields: Mapping[str, Any]) -> Any:
    """A pool needs two ids."""
    if isinstance(fields.get("pool"), list) and len(fields["pool"]) == 1:
        raise PolicyError("pool", "1 long", "at least two ids")
    return _normal(fields)


@mutant("MLM-ERR-7", "policy")
def the_normal_form_is_none(fields: Mapping[str, Any]) -> Any:
    """What a policy is normalised to has a field that policies have not."""
    return {**_normal(fields), "pool_size": MaskingPolicy.from_mapping(fields).pool_size}

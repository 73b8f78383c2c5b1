"""Chapter ERR, policies: what is taken for one, what is refused, and what is lost of one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mlm_conformance.mutants.registry import mutant
from mlm_spec import Corruption, MaskingPolicy, PolicyError, Span

__all__ = [
    "a_law_of_any_name_is_bernoulli",
    "a_list_for_a_pool_is_sorted",
    "a_long_list_of_lengths_is_cut",
    "a_pool_of_one_is_refused",
    "a_truth_value_is_a_count",
    "a_wrong_policy_is_any_error",
    "fields_that_no_law_has_are_dropped",
    "floats_are_probabilities",
    "kinds_need_not_add_up",
    "lengths_add_up_nearly",
    "only_usual_denominators_are_policies",
    "padding_is_not_special",
    "percents_are_probabilities",
    "rates_become_floats",
    "special_ids_may_be_floats",
    "special_ids_stay_in_their_order",
    "the_cap_is_lost",
    "the_normal_form_is_none",
    "the_unit_is_lost",
    "unknown_fields_are_dropped",
    "what_is_left_out_stays_out",
    "what_is_not_said_is_kept",
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
    names = ("mask", "random", "keep")
    if isinstance(kinds, dict) and all(isinstance(kinds.get(name), str) for name in names):
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


@mutant("MLM-ERR-16", "policy")
def the_normal_form_is_none(fields: Mapping[str, Any]) -> Any:
    """What a policy is normalised to has a field that policies have not."""
    return {**_normal(fields), "pool_size": MaskingPolicy.from_mapping(fields).pool_size}


@mutant("MLM-ERR-7", "policy")
def percents_are_probabilities(fields: Mapping[str, Any]) -> Any:
    """15% is 15/100."""

    def exact(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: exact(item) for name, item in value.items()}
        is_percent = isinstance(value, str) and value.endswith("%")
        return str(Fraction(value[:-1]) / 100) if is_percent else value

    return _normal(exact(dict(fields)))


@mutant("MLM-ERR-7", "policy")
def only_usual_denominators_are_policies(fields: Mapping[str, Any]) -> Any:
    """A rate needs a denominator of 32 bits."""
    law = MaskingPolicy.from_mapping(fields).selection
    rate: Fraction = law.start if isinstance(law, Span) else law.rate
    if rate.denominator >= 2**32:
        raise PolicyError("selection.rate", rate, "a denominator below 2**32")
    return _normal(fields)


@mutant("MLM-ERR-7", "policy")
def fields_that_no_law_has_are_dropped(fields: Mapping[str, Any]) -> Any:
    """A law's field that no law has is not looked at."""
    law = fields.get("selection")
    if not isinstance(law, dict):
        return _normal(fields)
    known = ("law", "rate", "floor", "cap", "base", "rounding", "start", "lengths")
    return _normal({**fields, "selection": {n: v for n, v in law.items() if n in known}})


@mutant("MLM-ERR-7", "policy")
def what_is_not_said_is_kept(fields: Mapping[str, Any]) -> Any:
    """A corruption without the weight of keep has what is left for it."""
    kinds = fields.get("corruption")
    if not isinstance(kinds, dict) or "keep" in kinds or not {"mask", "random"} <= set(kinds):
        return _normal(fields)
    keep = 1 - Fraction(kinds["mask"]) - Fraction(kinds["random"])
    return _normal({**fields, "corruption": {**kinds, "keep": str(keep)}})


@mutant("MLM-ERR-7", "policy")
def lengths_add_up_nearly(fields: Mapping[str, Any]) -> Any:
    """Lengths of spans may add up to 1 in single precision."""
    try:
        return _normal(fields)
    except PolicyError as error:
        if error.where != "selection.lengths" or not error.got.startswith("of sum"):
            raise
        law, exact = fields["selection"], Fraction(error.got.removeprefix("of sum "))
        if abs(exact - 1) * 2**23 > 1:
            raise
        last = str(Fraction(law["lengths"][-1]) + 1 - exact)
        return _normal({**fields, "selection": {**law, "lengths": [*law["lengths"][:-1], last]}})


@mutant("MLM-ERR-7", "policy")
def a_truth_value_is_a_count(fields: Mapping[str, Any]) -> Any:
    """True is a cap, and a floor, of 1."""
    law = fields.get("selection")
    if not isinstance(law, dict):
        return _normal(fields)
    counted = {n: int(v) if n in ("floor", "cap") and v is True else v for n, v in law.items()}
    return _normal({**fields, "selection": counted})


@mutant("MLM-ERR-7", "policy")
def special_ids_may_be_floats(fields: Mapping[str, Any]) -> Any:
    """A special id of 4.0 is 4."""
    ids = fields.get("special_ids")
    if not isinstance(ids, list):
        return _normal(fields)
    whole = [int(i) if isinstance(i, float) and i.is_integer() else i for i in ids]
    return _normal({**fields, "special_ids": whole})


@mutant("MLM-ERR-16", "policy")
def the_unit_is_lost(fields: Mapping[str, Any]) -> Any:
    """Kinds are by token in every normal form."""
    normal = _normal(fields)
    return {**normal, "corruption": {**normal["corruption"], "unit": "token"}}


@mutant("MLM-ERR-16", "policy")
def the_cap_is_lost(fields: Mapping[str, Any]) -> Any:
    """A fixed count is written without its cap."""
    normal = _normal(fields)
    law = normal["selection"]
    return {**normal, "selection": {**law, "cap": None}} if "cap" in law else normal


@mutant("MLM-ERR-16", "policy")
def rates_become_floats(fields: Mapping[str, Any]) -> Any:
    """The normal form has what float() makes of a rate, with all its digits."""
    normal = _normal(fields)
    law = normal["selection"]
    name = "start" if "start" in law else "rate"
    near = str(Fraction(float(Fraction(law[name]))).limit_denominator(10**6))
    return {**normal, "selection": {**law, name: near}}


@mutant("MLM-ERR-16", "policy")
def padding_is_not_special(fields: Mapping[str, Any]) -> Any:
    """The id of padding is among the special ids only where it was listed."""
    listed = set(fields.get("special_ids", ()))
    normal = _normal(fields)
    return {**normal, "special_ids": [i for i in normal["special_ids"] if i in listed]}


@mutant("MLM-ERR-16", "policy")
def special_ids_stay_in_their_order(fields: Mapping[str, Any]) -> Any:
    """Two orders of the special ids are two policies."""
    normal = _normal(fields)
    given = [*dict.fromkeys(fields.get("special_ids", ()))]
    return {**normal, "special_ids": [*given, *(set(normal["special_ids"]) - set(given))]}


@mutant("MLM-ERR-16", "policy")
def what_is_left_out_stays_out(fields: Mapping[str, Any]) -> Any:
    """The normal form has the fields that were given."""
    return {name: value for name, value in _normal(fields).items() if name in fields}


@mutant("MLM-ERR-16", "policy")
def a_long_list_of_lengths_is_cut(fields: Mapping[str, Any]) -> Any:
    """Of the lengths of spans the first twenty are kept."""
    normal = _normal(fields)
    law = normal["selection"]
    short = {**law, "lengths": law["lengths"][:20]} if "lengths" in law else law
    return {**normal, "selection": short}

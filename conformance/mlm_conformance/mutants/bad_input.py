"""Chapter ERR: backends that let bad input pass, or say the wrong thing about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant, mutant_around, mutant_with_state
from mlm_spec import (
    Bernoulli,
    CapacityError,
    Corruption,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    InputError,
    MaskingPolicy,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    Status,
    WordError,
    checking,
    masking,
)

Call = dict[str, Any]
_OPTAX = "https://github.com/google-deepmind/optax/issues/1185"
_CUT_OFF = (
    "https://github.com/JonasGeiping/cramming/blob/196c991/cramming/architectures/crammed_bert.py"
)
_FAULTY, _GOOD = "a_faulty_{}_has_no_effect", "a_good_{}_has_its_effect"


@mutant_around("MLM-ERR-1", "mask", "score", "head")
def a_wrong_shape_is_any_error(correct: Port, call: Call) -> Any:
    """A wrong shape raises a plain ValueError, as a library underneath would."""
    try:
        return correct(**call)
    except ShapeError as error:
        raise ValueError(str(error)) from None


def _broadcast(call: Call, name: str, like: str) -> Call:
    """The call with an array broadcast to the first two axes of another, where that is possible."""
    try:
        return {**call, name: np.broadcast_to(call[name], call[like].shape[:2]).copy()}
    except (ValueError, AttributeError):
        return call


@mutant_around("MLM-ERR-1", "mask")
def eligible_is_broadcast(correct: Port, call: Call) -> Any:
    """An eligible row applies to all rows."""
    return correct(**_broadcast(call, "eligible", "tokens"))


@mutant_around("MLM-ERR-1", "score")
def weights_are_broadcast(correct: Port, call: Call) -> Any:
    """A row of weights applies to all rows."""
    return correct(**_broadcast(call, "weights", "logits"))


@mutant_around("MLM-ERR-1", "head")
def the_bias_is_flattened(correct: Port, call: Call) -> Any:
    """A bias of shape (1, V) is taken for (V,)."""
    return correct(**{**call, "bias": np.reshape(call["bias"], -1)})


@mutant_around("MLM-ERR-2", "mask", "score", "head")
def a_wrong_dtype_is_a_wrong_shape(correct: Port, call: Call) -> Any:
    """A wrong element type raises ShapeError."""
    try:
        return correct(**call)
    except DTypeError as error:
        raise ShapeError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-2", "mask")
def tokens_are_converted(correct: Port, call: Call) -> Any:
    """Tokens of any type become int64."""
    tokens = np.asarray(call["tokens"])
    return correct(
        **{**call, "tokens": tokens if tokens.dtype == np.int32 else tokens.astype("i8")}
    )


@mutant_around("MLM-ERR-2", "score")
def selected_is_converted(correct: Port, call: Call) -> Any:
    """A selection of integers or floats is read as true and false."""
    return correct(**{**call, "selected": np.asarray(call["selected"]).astype(np.bool_)})


@mutant_around("MLM-ERR-2", "head")
def the_weight_is_converted(correct: Port, call: Call) -> Any:
    """A weight of another dtype is brought to that of the hidden states."""
    if not isinstance(call["weight"], np.ndarray) or not isinstance(call["hidden"], np.ndarray):
        return correct(**call)
    return correct(**{**call, "weight": call["weight"].astype(call["hidden"].dtype)})


@mutant("MLM-ERR-3", "mask")
def tokens_are_not_looked_at(**call: Any) -> Any:
    """Tokens outside the vocabulary are masked like others."""
    with patch.multiple(masking, check_ids=lambda *anything: None):
        return masking.mask(**call)


@mutant("MLM-ERR-3", "mask")
def the_id_after_the_last_is_allowed(**call: Any) -> Any:
    """Ids run from 0 to V."""
    right = checking.check_ids
    with patch.multiple(masking, check_ids=lambda name, ids, size: right(name, ids, size + 1)):
        return masking.mask(**call)


def _with_ids(call: Call, change: Any) -> Call:
    """The call with its targets changed by ``change(targets, V)``, if they are an array."""
    size = call["logits"].shape[-1] if "logits" in call else len(call["weight"])
    try:
        return {**call, "targets": change(call["targets"], size).astype(call["targets"].dtype)}
    except (TypeError, ValueError, AttributeError, ZeroDivisionError):
        return call


@mutant_around("MLM-ERR-3", "score", "head", url=_OPTAX)
def targets_count_from_the_end(correct: Port, call: Call) -> Any:
    """A target of −1 is the last id, and one of V the first."""
    return correct(**_with_ids(call, lambda ids, size: ids % size))


@mutant_around("MLM-ERR-3", "score", "head")
def targets_are_clamped(correct: Port, call: Call) -> Any:
    """A target outside the vocabulary is taken for the nearest id."""
    return correct(**_with_ids(call, lambda ids, size: np.clip(ids, 0, size - 1)))


def _cleaned(call: Call, *names: str) -> Call:
    """The call with NaN turned into 0 and infinities into large numbers."""
    return {**call, **{name: _finite(call[name]) for name in names}}


def _finite(values: Any) -> Any:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fV":
        return values
    wide = values.astype(np.float64)
    wide[np.isnan(wide)] = 0.0
    return np.where(np.isposinf(wide), 1e4, wide).astype(values.dtype)


@mutant_around("MLM-ERR-4", "score")
def nan_logits_become_0(correct: Port, call: Call) -> Any:
    """NaN among the logits is turned into 0, and +∞ into a large number."""
    return correct(**_cleaned(call, "logits"))


@mutant_around("MLM-ERR-4", "score", "head")
def nan_weights_become_0(correct: Port, call: Call) -> Any:
    """NaN among the upstream weights is turned into 0."""
    return correct(**_cleaned(call, "weights"))


@mutant_around("MLM-ERR-4", "head")
def nan_in_the_layer_becomes_0(correct: Port, call: Call) -> Any:
    """NaN in the weight and the bias is turned into 0."""
    return correct(**_cleaned(call, "weight", "bias"))


@mutant_around("MLM-ERR-4", "score", "head")
def nan_is_an_arithmetic_error(correct: Port, call: Call) -> Any:
    """NaN raises FloatingPointError."""
    try:
        return correct(**call)
    except NotFiniteError as error:
        raise FloatingPointError(str(error)) from None


@mutant_around("MLM-ERR-5", "score")
def no_support_is_uniform(correct: Port, call: Call) -> Any:
    """Logits that are all −∞ are taken for equal ones: the value is −log V."""
    logits = call["logits"]
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fV" or not logits.size:
        return correct(**call)
    barred = np.isneginf(logits.astype(np.float64)).all(axis=-1, keepdims=True)
    zero = np.zeros((), logits.dtype)
    return correct(**{**call, "logits": np.where(barred, zero, logits)})


@mutant_around("MLM-ERR-5", "score")
def no_support_is_nan(correct: Port, call: Call) -> Any:
    """Logits that are all −∞ give NaN, which is 0/0."""
    try:
        return correct(**call)
    except NoSupportError:
        nothing = correct(**{**call, "selected": np.zeros_like(call["selected"])})
        return nothing._replace(sum=np.float64(np.nan))


@mutant_around("MLM-ERR-6", "score")
def an_impossible_target_is_minus_infinity(correct: Port, call: Call) -> Any:
    """A target with logit −∞ makes the sum −∞."""
    try:
        return correct(**call)
    except ImpossibleTargetError:
        nothing = correct(**{**call, "selected": np.zeros_like(call["selected"])})
        return nothing._replace(sum=np.float64(-np.inf))


@mutant_around("MLM-ERR-6", "score")
def an_impossible_target_has_no_support(correct: Port, call: Call) -> Any:
    """A target with logit −∞ raises NoSupportError, as if all logits were."""
    try:
        return correct(**call)
    except ImpossibleTargetError as error:
        raise NoSupportError(error.where, error.got, error.expected) from None


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


@mutant("MLM-ERR-7", "policy")
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


def _key_as(call: Call, change: Any) -> Call:
    return {**call, "seed": change(call["seed"]), "epoch": change(call["epoch"])}


@mutant_around("MLM-ERR-8", "mask")
def long_seeds_are_cut(correct: Port, call: Call) -> Any:
    """A seed is taken modulo 2⁶⁴."""
    plain = int
    return correct(**_key_as(call, lambda n: n % 2**64 if type(n) is plain else n))


@mutant_around("MLM-ERR-8", "mask")
def a_truth_value_is_a_seed(correct: Port, call: Call) -> Any:
    """True is the seed 1."""
    return correct(**_key_as(call, lambda n: int(n) if isinstance(n, bool) else n))


@mutant_around("MLM-ERR-8", "mask")
def a_wrong_seed_is_any_error(correct: Port, call: Call) -> Any:
    """A seed that is out of range raises OverflowError."""
    try:
        return correct(**call)
    except SeedError as error:
        raise OverflowError(str(error)) from None


@mutant_around("MLM-ERR-9", "mask", "score", "head")
def ids_are_clamped_before_they_are_refused(correct: Port, call: Call) -> Any:
    """The caller's ids are brought into range, and then refused."""
    try:
        return correct(**call)
    except IdRangeError:
        for name in {"tokens", "targets"} & set(call):
            np.clip(call[name], 0, 3, out=call[name])
        raise


@mutant_with_state("MLM-ERR-9", "mask", "score", "head")
def a_refused_call_is_remembered(correct: Port) -> Port:
    """The first answer after an error is that of an empty selection."""
    refused = False

    def port(**call: Any) -> Any:
        nonlocal refused
        try:
            result = correct(**call)
        except InputError:
            refused = True
            raise
        if refused:
            refused = False
            field = "selected" if "selected" in result._fields else "sum"
            return result._replace(**{field: getattr(result, field) * 0})
        return result

    return port


@mutant_around("MLM-ERR-10", "mask", "score", "head")
def errors_say_nothing(correct: Port, call: Call) -> Any:
    """Every error is "bad input", without its parts."""
    try:
        return correct(**call)
    except InputError as error:
        bare = type(error).__new__(type(error))
        bare.args = ("bad input",)
        raise bare from None


@mutant_around("MLM-ERR-10", "mask", "score", "head")
def errors_do_not_say_where(correct: Port, call: Call) -> Any:
    """An error names the argument and leaves out the index."""
    try:
        return correct(**call)
    except InputError as error:
        where = re.sub(r"\[.*\]", "", error.where)
        raise type(error)(where, error.got, error.expected) from None


@mutant_around("MLM-ERR-10", "mask", "score", "head")
def the_message_is_another(correct: Port, call: Call) -> Any:
    """The parts are there as fields, and not in the message."""
    try:
        return correct(**call)
    except InputError as error:
        error.args = (f"{error.where} is wrong",)
        raise


_STEPS = ("mask_step", "score_step", "head_step")


@mutant_around("MLM-ERR-11", *_STEPS)
def the_status_is_always_ok(correct: Port, call: Call) -> Any:
    """Nothing is reported."""
    return correct(**call)._replace(status=Status.OK)


@mutant_around("MLM-ERR-11", *_STEPS)
def nothing_selected_is_ok(correct: Port, call: Call) -> Any:
    """The bit for an empty selection is never set."""
    result = correct(**call)
    return result._replace(status=result.status & ~Status.EMPTY)


@mutant_around("MLM-ERR-11", "score_step", "head_step")
def a_full_step_overflows(correct: Port, call: Call) -> Any:
    """As many selected positions as the capacity are one too many."""
    return correct(**{**call, "capacity": call["capacity"] - 1})


@mutant_around("MLM-ERR-11", "score_step", "head_step", url=_CUT_OFF)
def positions_beyond_the_capacity_are_dropped(correct: Port, call: Call) -> Any:
    """What does not fit is left out, and nobody is told."""
    return correct(**{**call, "selected": _first(call)})


def _first(call: Call) -> Any:
    """The first selected positions, as many as there is room for."""
    places = np.flatnonzero(call["selected"])[: call["capacity"]]
    kept = np.zeros(call["selected"].size, np.bool_)
    kept[places] = True
    return kept.reshape(call["selected"].shape)


@mutant_around("MLM-ERR-11", *_STEPS)
def a_step_raises_for_data(correct: Port, call: Call) -> Any:
    """A step raises at once, as a checked entry point does."""
    result = correct(**call)
    if result.status & ~Status.EMPTY:
        raise IdRangeError("a step's data", result.status.name, "good data")
    return result


@mutant_around("MLM-ERR-11", "score_step", "head_step")
def one_bit_for_all_faults(correct: Port, call: Call) -> Any:
    """Whatever is wrong, the status is NOT_FINITE."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(status=Status.NOT_FINITE) if faulty else result


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_FAULTY)
def an_overflow_returns_what_fits(correct: Port, call: Call) -> Any:
    """An overflow is reported, and the part that fits is in the results."""
    status = correct(**call).status
    if status & Status.OVERFLOW:
        return correct(**{**call, "selected": _first(call)})._replace(status=status)
    return correct(**call)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_FAULTY)
def a_fault_makes_the_sum_nan(correct: Port, call: Call) -> Any:
    """A fault is reported, and the sum is NaN."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(sum=np.float64(np.nan)) if faulty else result


@mutant_around("MLM-ERR-12", "mask_step", check=_FAULTY)
def a_faulty_batch_is_masked_anyway(correct: Port, call: Call) -> Any:
    """An id that is out of range is reported, and the rest of the batch is masked."""
    last = call["policy"].vocab_size - 1
    good = correct(**{**call, "tokens": np.clip(call["tokens"], 0, last)})
    return good._replace(status=correct(**call).status)


@mutant_around("MLM-ERR-12", "mask_step", check=_FAULTY)
def a_faulty_batch_has_no_targets(correct: Port, call: Call) -> Any:
    """An id that is out of range is reported, and the targets are zeros."""
    result = correct(**call)
    faulty = result.status & ~Status.EMPTY
    return result._replace(targets=np.zeros_like(result.targets)) if faulty else result


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def steps_do_nothing(correct: Port, call: Call) -> Any:
    """Every step is one without effect, whatever its status says."""
    gone = {name: _zero(value) for name, value in correct(**call)._asdict().items()}
    return {**gone, "status": correct(**call).status}


def _zero(value: Any) -> Any:
    return None if value is None else np.zeros_like(value)


@mutant_around("MLM-ERR-12", "mask_step", check=_GOOD)
def a_mask_step_does_nothing(correct: Port, call: Call) -> Any:
    """The tokens come back as they are, and nothing is selected."""
    result = correct(**call)
    nothing = np.zeros_like(result.selected)
    return result._replace(inputs=result.targets, selected=nothing)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_step_has_a_mean(correct: Port, call: Call) -> Any:
    """The sum of a step is divided by its count."""
    result = correct(**call)
    return result._replace(sum=result.sum / max(int(result.count), 1))


@mutant("MLM-ERR-13", "raise_for_status")
def nothing_is_ever_raised(status: int, *, mean: bool = False) -> None:
    """The status is taken and not looked at."""


@mutant_around("MLM-ERR-13", "raise_for_status")
def an_empty_step_always_raises(correct: Port, call: Call) -> Any:
    """EMPTY raises, whether or not a mean is asked for."""
    return correct(**{**call, "mean": True})


@mutant_around("MLM-ERR-13", "raise_for_status")
def an_empty_step_never_raises(correct: Port, call: Call) -> Any:
    """EMPTY raises nothing, though a mean is asked for."""
    return correct(**{**call, "mean": False})


@mutant_around("MLM-ERR-13", "raise_for_status")
def every_fault_is_a_capacity_error(correct: Port, call: Call) -> Any:
    """Whatever bit is set, CapacityError is raised."""
    try:
        return correct(**call)
    except InputError:
        raise CapacityError("status", call["status"], "0") from None


@mutant("MLM-ERR-13", "raise_for_status")
def the_last_bit_is_raised_first(status: int, *, mean: bool = False) -> None:
    """Of several bits the highest decides."""
    for bit, error in (
        (Status.EMPTY if mean and status == Status.EMPTY else 0, EmptySelectionError),
        (Status.NOT_FINITE, NotFiniteError),
        (Status.ID_RANGE, IdRangeError),
        (Status.OVERFLOW, CapacityError),
    ):
        if status & bit:
            raise error("status", status, "0")


@mutant("MLM-ERR-13", "raise_for_status")
def a_status_is_compared_as_a_whole(status: int, *, mean: bool = False) -> None:
    """A status with two bits is none of the four that are known."""
    known = {1: CapacityError, 2: IdRangeError, 4: NotFiniteError}
    if mean:
        known[8] = EmptySelectionError
    if status in known:
        raise known[status]("status", status, "0")


@mutant_around("MLM-ERR-14", "score", "head")
def all_targets_are_looked_at(correct: Port, call: Call) -> Any:
    """A target of −100 is refused, also where nothing is selected."""
    size = call["logits"].shape[-1] if "logits" in call else len(call["weight"])
    checking.check_ids("targets", call["targets"], size)
    return correct(**call)


@mutant_around("MLM-ERR-14", "score")
def all_logits_are_looked_at(correct: Port, call: Call) -> Any:
    """NaN is refused, also where nothing is selected."""
    checking.check_finite("logits", call["logits"])
    return correct(**call)


@mutant_around("MLM-ERR-14", "head")
def all_hidden_states_are_looked_at(correct: Port, call: Call) -> Any:
    """NaN is refused, also where nothing is selected."""
    checking.check_finite("hidden", call["hidden"])
    return correct(**call)


@mutant_around("MLM-ERR-15", "mask")
def missing_words_are_tokens(correct: Port, call: Call) -> Any:
    """Without word ids every token is a word."""
    if call["word_id"] is not None:
        return correct(**call)
    shape = call["tokens"].shape
    words = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape).copy()
    return correct(**{**call, "word_id": words})


@mutant_around("MLM-ERR-15", "mask")
def missing_words_are_a_policy_error(correct: Port, call: Call) -> Any:
    """A policy that needs words, without them, raises PolicyError."""
    try:
        return correct(**call)
    except WordError as error:
        raise PolicyError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-15", "mask")
def missing_words_change_the_law(correct: Port, call: Call) -> Any:
    """Without word ids the whole-word law becomes the Bernoulli law."""
    policy = call["policy"]
    if call["word_id"] is not None or not isinstance(policy, MaskingPolicy):
        return correct(**call)
    kinds = policy.corruption
    plain = Corruption(kinds.mask, kinds.random, kinds.keep)
    law = Bernoulli(getattr(policy.selection, "rate", "1/2"))
    fields = (policy.vocab_size, policy.mask_id, policy.pad_id, policy.special_ids, policy.pool)
    return correct(**{**call, "policy": MaskingPolicy(law, plain, *fields)})

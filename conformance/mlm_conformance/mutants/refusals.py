"""Chapter ERR, around errors: what they change, what they say, and what is none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around, mutant_with_state
from mlm_spec import (
    Bernoulli,
    Corruption,
    IdRangeError,
    InputError,
    MaskingPolicy,
    NotFiniteError,
    PolicyError,
    WordError,
    checking,
)

__all__ = [
    "a_refused_call_is_remembered",
    "all_hidden_states_are_looked_at",
    "all_logits_are_looked_at",
    "all_targets_are_looked_at",
    "all_weights_are_looked_at",
    "errors_do_not_say_where",
    "errors_say_nothing",
    "ids_are_clamped_before_they_are_refused",
    "missing_words_are_a_policy_error",
    "missing_words_are_tokens",
    "missing_words_change_the_law",
    "the_message_is_another",
    "words_are_always_needed",
]

Call = dict[str, Any]
_NEEDED, _NEEDLESS = "mask_raises_WordError", "a_policy_that_looks_at_no_words_needs_none"


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


@mutant_around("MLM-ERR-14", "score", "head")
def all_targets_are_looked_at(correct: Port, call: Call) -> Any:
    """A target of −100 is refused, also where nothing is selected."""
    result = correct(**call)
    size = call["logits"].shape[-1] if "logits" in call else len(call["weight"])
    checking.check_ids("targets", call["targets"], size)
    return result


@mutant_around("MLM-ERR-14", "score", "head")
def all_weights_are_looked_at(correct: Port, call: Call) -> Any:
    """A weight that is NaN is refused, also where nothing is selected."""
    result = correct(**call)
    if call["weights"] is not None:
        checking.check_finite("weights", call["weights"])
    return result


@mutant_around("MLM-ERR-14", "score")
def all_logits_are_looked_at(correct: Port, call: Call) -> Any:
    """NaN is refused, also where nothing is selected."""
    result = correct(**call)
    if np.isnan(call["logits"]).any():
        raise NotFiniteError("logits", "NaN", "numbers")
    return result


@mutant_around("MLM-ERR-14", "head")
def all_hidden_states_are_looked_at(correct: Port, call: Call) -> Any:
    """NaN is refused, also where nothing is selected."""
    result = correct(**call)
    checking.check_finite("hidden", call["hidden"])
    return result


@mutant_around("MLM-ERR-15", "mask", check=_NEEDLESS)
def words_are_always_needed(correct: Port, call: Call) -> Any:
    """Word ids are asked for whatever the policy says."""
    result = correct(**call)
    if call["word_id"] is None:
        raise WordError("word_id", "None", "int32 (B, T)")
    return result


@mutant_around("MLM-ERR-15", "mask", check=_NEEDED)
def missing_words_are_tokens(correct: Port, call: Call) -> Any:
    """Without word ids every token is a word."""
    if call["word_id"] is not None:
        return correct(**call)
    shape = call["tokens"].shape
    words = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape).copy()
    return correct(**{**call, "word_id": words})


@mutant_around("MLM-ERR-15", "mask", check=_NEEDED)
def missing_words_are_a_policy_error(correct: Port, call: Call) -> Any:
    """A policy that needs words, without them, raises PolicyError."""
    try:
        return correct(**call)
    except WordError as error:
        raise PolicyError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-15", "mask", check=_NEEDED)
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

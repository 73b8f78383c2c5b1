"""A report names the part of the encoder that is wrong, and not all that it makes wrong."""

from __future__ import annotations

import pytest
from mlm_conformance.check import Check, Violation
from mlm_conformance.divergence import mark_consequences
from mlm_conformance.mutants.library import MUTANTS
from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import CheckResult
from mlm_conformance.runner import open_session, plan, with_texts
from mlm_conformance.session import Session

CHECKS = plan(["MLM-ENC"])
NAMED = {
    "a_weight_is_stored_by_its_inputs": "MLM-ENC-1",
    "layer_norm_comes_before_each_part": "MLM-ENC-9",
    "positions_are_columns": "MLM-ENC-2",
    "epsilon_is_1e_5": "MLM-ENC-3",
    "the_variance_is_unbiased": "MLM-ENC-3",
    "gelu_by_tanh": "MLM-ENC-4",
    "scores_by_the_whole_width": "MLM-ENC-5",
    "attention_looks_back_only": "MLM-ENC-6",
    "attention_sees_padding": "MLM-ENC-7",
    "attention_sees_packed_neighbours": "MLM-ENC-8",
    "no_residual_around_attention": "MLM-ENC-9",
    "no_output_bias": "MLM-ENC-10",
    "a_tied_gradient_without_the_embeddings": "MLM-ENC-11",
    "the_backward_of_layer_norm_has_no_mean": "MLM-ENC-12",
    "gradients_of_two_micro_batches_at_most": "MLM-ENC-13",
    "dropout_in_evaluation": "MLM-ENC-14",
    "dropout_is_not_scaled": "MLM-ENC-15",
    "dropout_by_the_row": "MLM-ENC-16",
    "the_gradient_of_nothing_is_nan": "MLM-ENC-17",
}


def judged(session: Session, check: Check) -> CheckResult:
    context, outcome, what = session.context(), Outcome.PASS, ""
    try:
        check.judge(context, check.always[0].build(0))
    except Violation as error:
        outcome, what = Outcome.FAIL, error.what
    about = (check.requirement, check.name, check.port, check.theorem, outcome)
    return CheckResult(*about, 1, {}, None, "", 0.0, what=what)


@pytest.mark.parametrize("name", NAMED)
def test_the_first_divergence_is_the_part_that_is_wrong(name: str) -> None:
    (mutant,) = [m for m in MUTANTS if m.name == name]
    session = open_session(mutant.target, profile="quick", in_process=True, run_seed=0)
    results: dict[str, list[CheckResult]] = {}
    for check in CHECKS:
        results.setdefault(check.requirement, []).append(judged(session, check))
    _, first = mark_consequences(with_texts(results))
    assert first == NAMED[name]

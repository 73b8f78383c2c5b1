"""At least sixty bad calls for each port: the documented error, and nothing changed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from mlm_conformance.cases.bad import bad_calls
from mlm_conformance.cases.bad_policies import policies
from mlm_conformance.cases.bad_steps import STEPS, bad_step_calls, bad_word_calls
from mlm_conformance.cases.model import BadCallCase
from mlm_conformance.resolve import resolve

from mlm_spec import MlmSpecError, errors
from mlm_spec.policy import MaskingPolicy

BACKENDS = ("numpy", "torch", "jax")
PORTS = ("mask", "score", "head", "loss", "random_words", *STEPS)


def calls_of(port: str, reduction: str = "mean") -> tuple[BadCallCase, ...]:
    if port == "random_words":
        return bad_word_calls()
    return bad_step_calls(port) if port in STEPS else bad_calls(port, reduction)


@pytest.mark.parametrize("port", PORTS)
def test_the_table_has_sixty_calls_with_their_own_errors(port: str) -> None:
    calls = calls_of(port)
    assert len(calls) >= 60
    assert len({case.about for case in calls}) == len(calls)
    assert len({case.error for case in calls}) >= 2


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return bool(a == b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("port", PORTS)
def test_each_bad_call_gives_its_documented_error(backend: str, port: str) -> None:
    target = resolve(backend, "cpu")
    wrong = []
    for case in calls_of(port, getattr(target, "loss_reduction", "mean")):
        before = copy.deepcopy(case.arguments)
        try:
            getattr(target, port)(**case.arguments)
            wrong.append(f"{case.about}: no error, expected {case.error}")
        except MlmSpecError as error:
            if not isinstance(error, getattr(errors, case.error)):
                wrong.append(f"{case.about}: {type(error).__name__} ({error}), not {case.error}")
            if case.where not in str(error):
                wrong.append(f"{case.about}: {error} does not say {case.where}")
        except Exception as error:
            wrong.append(f"{case.about}: {type(error).__name__} ({error}), not {case.error}")
        if not all(same(case.arguments[name], before[name]) for name in before):
            wrong.append(f"{case.about}: an argument has changed")
    assert not wrong, "\n".join(wrong)


def test_sixty_bad_policies_are_refused() -> None:
    bad = [case for case in policies() if not case.valid]
    assert len(bad) >= 60
    for case in bad:
        with pytest.raises(errors.PolicyError):
            MaskingPolicy.from_mapping(case.fields)

"""Chapter ERR on the port ``policy``: what is a policy, and what it says."""

from __future__ import annotations

import json
from typing import Any

from mlm_conformance.cases.bad_policies import policies
from mlm_conformance.cases.model import PolicyCase
from mlm_conformance.cases.policies import normal_form, policy_series
from mlm_conformance.check import Context, Fixed, check, table

__all__: list[str] = []  # importing the module registers its checks


@check(
    "MLM-ERR-7",
    port="policy",
    recipes=table([Fixed(case) for case in policies()]),
    needs=("valid policies", "invalid policies"),
    theorem=True,
    series=policy_series,
)
def policies_are_validated(context: Context, case: PolicyCase) -> None:
    context.saw("valid policies" if case.valid else "invalid policies")
    answer = context.answer("policy", {"fields": case.fields})
    if case.valid:
        context.require(answer.kind == "result", f"{case}: refused: {answer.raised or answer.text}")
        return
    context.require(answer.kind != "result", f"{case}: accepted")
    context.require(answer.raised is not None, f"{case}: {answer.text}")
    assert answer.raised is not None
    context.require(
        "PolicyError" in answer.raised.classes,
        f"{case}: raised {answer.raised.type}, should raise PolicyError",
    )


@check(
    "MLM-ERR-16",
    port="policy",
    recipes=table([Fixed(case) for case in policies() if case.valid]),
    needs=("fields",),
    theorem=True,
    series=policy_series,
)
def a_policy_has_one_normal_form(context: Context, case: PolicyCase) -> None:
    """However it is written; and that is its own normal form."""
    want = normal_form(case.fields)
    seen = _normalised(context, case.fields)
    _same(context, f"{case}", seen, want)
    _same(context, f"{case}: once more", _normalised(context, seen), want)


def _normalised(context: Context, fields: dict[str, Any]) -> dict[str, Any]:
    """All its fields, those that are None as well."""
    answer = context.answer("policy", {"fields": fields})
    context.result_of("policy", answer)
    return dict(answer.fields)


def _same(context: Context, about: str, seen: dict[str, Any], want: dict[str, Any]) -> None:
    context.saw("fields", len(want))
    context.require(
        seen.keys() == want.keys(),
        f"{about}: its normal form has the fields {', '.join(map(str, seen))}, "
        f"should have {', '.join(want)}",
    )
    for name, value in want.items():
        context.require(
            _told(seen[name]) == _told(value),
            f"{about}: {name} of its normal form is {_told(seen[name])}, should be {_told(value)}",
        )


def _told(value: Any) -> str:
    """As JSON, so that true is not 1; a mapping's fields in any order."""
    return json.dumps(value, sort_keys=True, default=repr)

"""Which of several failures came first, and which follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import CheckResult, RequirementResult

__all__ = ["STAGES", "mark_consequences", "stage_of"]

# The way of one batch; what fails at a stage explains what fails at a later one.
STAGES = (
    "words",
    "select",
    "replace",
    "likelihood",
    "sum",
    "parameters",
    "norm",
    "embedding",
    "layer",
    "activation",
    "attention",
    "output",
    "dropout",
    "gradient",
    "clip",
    "rate",
    "update",
    "file",
    "checkpoint",
    "devices",
    "nothing",
    "refuse",
)
_STAGE_OF_CHAPTER = {
    "RNG": "words",
    "SEL": "select",
    "COR": "replace",
    "DST": "select",
    "LIK": "likelihood",
    "OBJ": "sum",
    "GRA": "gradient",
    "HED": "gradient",
    "ENC": "gradient",
    "TRN": "gradient",
    "OPT": "update",
    "CKP": "checkpoint",
    "ERR": "refuse",
}
_STAGE_OF_REQUIREMENT = {
    # Words are seen through the selection they make.
    "MLM-RNG-2": "select",
    "MLM-RNG-3": "select",
    "MLM-RNG-4": "select",
    "MLM-RNG-5": "select",
    "MLM-RNG-6": "replace",
    # The distribution of what is shown, and not of what is selected.
    "MLM-DST-3": "replace",
    "MLM-DST-4": "replace",
    "MLM-DST-11": "replace",
    "MLM-DST-12": "replace",
    "MLM-DST-16": "replace",
    "MLM-DST-20": "replace",
    "MLM-DST-21": "gradient",
    "MLM-DST-22": "gradient",
    "MLM-DST-23": "gradient",
    "MLM-DST-24": "update",
    "MLM-DST-25": "refuse",
    "MLM-DST-26": "checkpoint",
    "MLM-DST-27": "update",
    # Which positions count, comes before how much each counts.
    "MLM-OBJ-1": "select",
    "MLM-OBJ-3": "select",
    "MLM-OBJ-4": "select",
    "MLM-HED-1": "sum",
    "MLM-HED-7": "sum",
    # Cases of the encoder see its parts up to their own, and are blind to those that come after.
    "MLM-ENC-1": "parameters",
    "MLM-ENC-2": "embedding",
    "MLM-ENC-3": "norm",
    "MLM-ENC-4": "activation",
    "MLM-ENC-5": "attention",
    "MLM-ENC-6": "attention",
    "MLM-ENC-7": "attention",
    "MLM-ENC-8": "attention",
    "MLM-ENC-9": "layer",
    "MLM-ENC-10": "output",
    "MLM-ENC-14": "dropout",
    "MLM-ENC-15": "dropout",
    "MLM-ENC-16": "dropout",
    # What is in the file comes before what is made of it.
    "MLM-CKP-2": "file",
    "MLM-CKP-3": "file",
    # An update is made of a gradient, its clipping and a rate; a moment shows all of these.
    "MLM-OPT-3": "clip",
    "MLM-OPT-4": "clip",
    "MLM-OPT-8": "rate",
    "MLM-OPT-9": "rate",
    "MLM-TRN-2": "update",
    "MLM-TRN-3": "update",
    "MLM-TRN-8": "update",
    "MLM-TRN-10": "select",
    "MLM-TRN-11": "select",
    "MLM-TRN-6": "update",
    # Devices share out what one of them does; what fills up is told by them and by the rows or ids.
    "MLM-DST-28": "devices",
    "MLM-DST-29": "nothing",
    "MLM-DST-30": "devices",
    # What is not made, and what goes on after it.
    "MLM-TRN-4": "nothing",
    "MLM-TRN-5": "nothing",
    "MLM-TRN-9": "nothing",
    "MLM-OPT-10": "nothing",
    # What happens to nothing tells least: a wrong denominator shows there too.
    "MLM-OBJ-7": "nothing",
    "MLM-OBJ-13": "nothing",
    "MLM-OBJ-14": "nothing",
    "MLM-OBJ-11": "nothing",
    "MLM-HED-6": "nothing",
    "MLM-ENC-17": "nothing",
}


#: What two masks, any two, must not do comes behind what those of two epochs, workers or ranks do.
#: And what decays shows in how it decays.  Replicas that add up wrongly do so with any masks.
_PARTICULAR = {
    "MLM-DST-6": ("MLM-DST-17", "MLM-DST-18", "MLM-DST-19"),
    "MLM-DST-21": ("MLM-DST-22",),
    "MLM-OPT-6": ("MLM-OPT-7",),
}
#: Checks that bring a session where they want it by a checkpoint: a wrong one shows in them.
_THROUGH_A_FILE = frozenset(
    {"what_is_kept_is_kept_in_float32", "the_scale_doubles_with_every_2000th_update"}
)

# What was compared may lie later than what the requirement is about: words are seen through masks,
# and one on words or on selection whose masks differ in the inputs alone has met a replacement.
_STAGE_OF_QUANTITY = {
    "inputs": "replace",
    "log_likelihood": "likelihood",
    "grad_logits": "gradient",
    "grad_hidden": "gradient",
    "grad_weight": "gradient",
    "grad_bias": "gradient",
    "gradient": "gradient",  # of a loss
    "exp_avg": "update",
    "exp_avg_sq": "update",
    "update": "update",  # what it leaves of a parameter
    "position": "file",  # of a run, as its checkpoint tells it
}
# A loss is a sum, divided: what it shows of a log-likelihood it shows through both.
_LOSSES = ("loss", "head_loss")


def stage_of(requirement: str) -> str:
    """The stage that a requirement is about."""
    chapter = requirement.split("-")[1]
    return _STAGE_OF_REQUIREMENT.get(requirement, _STAGE_OF_CHAPTER[chapter])


def _home(requirement: str) -> int:
    return STAGES.index(stage_of(requirement))


def _seen(failed: Sequence[RequirementResult]) -> dict[str, int]:
    """The earliest stage in which a check of each of them failed."""
    checks = {r.id: [c for c in r.checks if c.outcome is Outcome.FAIL] for r in failed}
    others = [c for id, own in checks.items() if stage_of(id) != "refuse" for c in own]
    # Good calls that raise, and no wrong answer anywhere: they were refused.
    refused = [STAGES.index("refuse")] if all(c.what == "raised" for c in others) else []
    in_files = any(stage_of(id) in ("file", "checkpoint") for id in checks)
    return {
        id: min(max([_home(id), *refused, *_shown(check, in_files)]) for check in own)
        for id, own in checks.items()
    }


def _shown(check: CheckResult, in_files: bool) -> list[int]:
    """The stages of what a failed check compared, and where; ``in_files``: files are wrong too."""
    if in_files and check.name in _THROUGH_A_FILE:
        return [STAGES.index("checkpoint")]
    through_a_loss = check.port in _LOSSES and stage_of(check.requirement) == "likelihood"
    names = (_STAGE_OF_QUANTITY.get(check.what.split(" ")[0]), "sum" if through_a_loss else None)
    return [STAGES.index(name) for name in names if name is not None]


def stage_seen(requirements: Sequence[RequirementResult], name: str) -> str:
    """The stage in which a failed requirement was seen to fail."""
    return STAGES[_seen([r for r in requirements if r.outcome is Outcome.FAIL])[name]]


def mark_consequences(
    requirements: tuple[RequirementResult, ...],
) -> tuple[tuple[RequirementResult, ...], str | None]:
    """The first requirement that diverged, and the rest of the failures as its consequences.

    The earliest stage in which a failure was seen comes first.  Within it come the requirements
    that are about this stage, a theorem before a comparison, since it says why; then the order of
    the specification.
    """
    theorems = {
        requirement.id
        for requirement in requirements
        for check in requirement.checks
        if check.theorem and check.outcome is Outcome.FAIL
    }
    failed = _seen([r for r in requirements if r.outcome is Outcome.FAIL])
    if not failed:
        return requirements, None
    order = {r.id: i for i, r in enumerate(requirements)}
    for general, particular in _PARTICULAR.items():
        if general in failed:
            order[general] = max(order[name] for name in (general, *particular) if name in failed)

    def rank(name: str) -> tuple[int, bool, bool, int, bool]:
        about_this_stage, says_why = _home(name) == failed[name], name in theorems
        return failed[name], not about_this_stage, not says_why, order[name], name in _PARTICULAR

    first = min(failed, key=rank)
    marked = []
    for requirement in requirements:
        # What is refused does not follow from what is computed: chapter ERR stands alone.
        stage = failed.get(requirement.id, _home(requirement.id))
        later = requirement.id != first and failed[first] <= stage < STAGES.index("refuse")
        own = tuple(
            replace(c, consequence_of=first) if later and c.outcome is Outcome.FAIL else c
            for c in requirement.checks
        )
        marked.append(replace(requirement, checks=own))
    return tuple(marked), first

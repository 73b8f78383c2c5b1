"""What a mutant is, and how one is registered.

A mutant is a backend with one thing wrong.  It has the ports that it is about and no others, and
is otherwise correct.  Whether the suite is worth anything is whether it rejects them all.

    @mutant("MLM-OBJ-8", "loss", reduction="mean")
    def mean_over_all_positions(**call: Any) -> Any:
        \"\"\"The sum is divided by the number of positions, selected or not.\"\"\"

The name then stands for the backend, so ``module:mean_over_all_positions`` is a target.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any

from mlm_conformance.mutants.correct import CORRECT, SUM
from mlm_spec import InputError, MlmSpecError

__all__ = [
    "REGISTERED",
    "WRAPPERS",
    "Mutant",
    "mutant",
    "mutant_around",
    "mutant_with_state",
    "register_mutant",
    "wrapped",
]

Port = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberately wrong backend.

    Attributes
    ----------
    name : the name of its function.
    target : ``module:attribute``, as ``mlm-spec check`` takes it.
    requirement : the id of what it breaks.
    ports : the methods it has; each of them breaks the requirement.
    about : one sentence, what is wrong.
    urls : where real programs were wrong in this way; none where it is made up.
    check : the name of the check that is there to catch it, ``{}`` in it standing for the port;
        None where the requirement has only one on each of the ports.
    profile : the shortest that is to catch it; ``"ci"`` where it takes a size of some kind.
    raises : the name of an exception, none of `mlm_spec.errors`, that is what is wrong with it.
    """

    name: str
    target: str
    requirement: str
    ports: tuple[str, ...]
    about: str
    urls: tuple[str, ...]
    check: str | None
    profile: str = "quick"
    raises: str | None = None


REGISTERED: list[Mutant] = []
#: The functions of `mutant_around`, by name.
WRAPPERS: dict[str, Port] = {}


def mutant(
    requirement: str,
    port: str,
    *,
    reduction: str | None = None,
    accumulation: str | None = None,
    check: str | None = None,
    url: str | tuple[str, ...] = (),
    profile: str = "quick",
    raises: str | None = None,
) -> Callable[[Port], Any]:
    """Register a function that is the wrong port; its docstring says what is wrong.

    ``reduction`` is the ``loss_reduction`` of the backend, for the losses; ``accumulation`` the
    class that it declares.
    """

    def register(function: Port) -> Any:
        register_mutant(function, requirement, (port,), check, url, profile, raises)
        return _backend({port: function}, reduction, accumulation)

    return register


def mutant_around(
    requirement: str,
    *ports: str,
    reduction: str | None = None,
    check: str | None = None,
    url: str | tuple[str, ...] = (),
    profile: str = "quick",
    raises: str | None = None,
) -> Callable[[Port], Any]:
    """Register a function (the correct port, its arguments by name) for one or several ports.

    Unless it is about chapter ERR, it gets good calls only; bad ones are refused as they should.
    """

    def register(function: Port) -> Any:
        register_mutant(function, requirement, ports, check, url, profile, raises)
        WRAPPERS[function.__name__] = function
        return wrapped(REGISTERED[-1], CORRECT[reduction or SUM], reduction)

    return register


def wrapped(mutant: Mutant, backend: object, reduction: str | None) -> SimpleNamespace:
    """The mistake of a mutant made with ``mutant_around``, around a correct backend."""
    around = _around if mutant.requirement.startswith("MLM-ERR") else _around_good_calls
    wrong = {p: around(WRAPPERS[mutant.name], getattr(backend, p)) for p in mutant.ports}
    return _backend(wrong, reduction)


def mutant_with_state(
    requirement: str,
    *ports: str,
    check: str | None = None,
    url: str | tuple[str, ...] = (),
    profile: str = "quick",
) -> Callable[[Port], Any]:
    """Register a function that makes a wrong port around the correct one, with its own state.

    Bad calls are refused as those of `mutant_around` are.
    """

    def register(maker: Port) -> Any:
        register_mutant(maker, requirement, ports, check, url, profile)
        around = _around if requirement.startswith("MLM-ERR") else _around_good_calls

        def port(correct: Port) -> Port:
            wrong = maker(correct)
            return around(lambda _, call: wrong(**call), correct)

        return lambda: _backend({p: port(getattr(CORRECT[SUM], p)) for p in ports}, None)

    return register


def register_mutant(
    function: Port,
    requirement: str,
    ports: tuple[str, ...],
    check: str | None,
    url: str | tuple[str, ...],
    profile: str = "quick",
    raises: str | None = None,
) -> None:
    """Add a mutant by the name and the docstring of what makes it."""
    name = function.__name__
    about = " ".join((function.__doc__ or "").split())
    target = f"{function.__module__}:{name}"
    urls = (url,) if isinstance(url, str) else url
    about_it = (name, target, requirement, ports, about)
    REGISTERED.append(Mutant(*about_it, urls, check, profile, raises))


def _backend(
    ports: dict[str, Port], reduction: str | None, accumulation: str | None = None
) -> SimpleNamespace:
    about = {"loss_reduction": reduction, "accumulation": accumulation}
    quiet = {name: _quiet(port) for name, port in ports.items()}
    return SimpleNamespace(**quiet, **{k: v for k, v in about.items() if v is not None})


def _quiet(port: Port) -> Port:
    """The port without NumPy's warnings: what is wrong with it is for the suite to say."""

    @wraps(port)
    def without_warnings(*given: Any, **call: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return port(*given, **call)

    return without_warnings


def _around_good_calls(function: Port, correct: Port) -> Port:
    def port(**call: Any) -> Any:
        try:
            correct(**call)
        except InputError:
            raise
        except MlmSpecError:  # the mean of nothing, which some mutants are about
            pass
        return function(correct, call)

    return port


def _around(function: Port, correct: Port) -> Port:
    def port(**call: Any) -> Any:
        return function(correct, call)

    return port

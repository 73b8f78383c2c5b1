"""The same mistakes in other backends: ``module:around.BACKEND.MUTANT`` is a target.

A mutant that changes what goes into a correct port, or what comes out of it, can be put around any
installed backend.  One that reaches inside the reference can not.

>>> len(portable_mutants("numpy")) > 20
True
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

from mlm_conformance.mutants import correct, inside, plain
from mlm_conformance.mutants.library import MUTANTS
from mlm_conformance.mutants.registry import WRAPPERS, Mutant, wrapped
from mlm_conformance.ports import PORTS, normalise
from mlm_conformance.resolve import claims, resolve

__all__ = ["around", "is_portable", "portable_mutants"]


class _Around:
    """Attributes are installed backends; theirs are mutants around them."""

    def __getattr__(self, backend: str) -> _Wrong:
        if backend.startswith("_"):
            raise AttributeError(backend)
        return _Wrong(backend)


class _Wrong:
    def __init__(self, backend: str) -> None:
        target = resolve(backend)
        self._backend = _in_order(target)
        self._reduction = getattr(target, "loss_reduction", None)

    def __getattr__(self, name: str) -> SimpleNamespace:
        found = [mutant for mutant in MUTANTS if mutant.name == name]
        if not found or not is_portable(found[0]):
            raise AttributeError(name)
        return wrapped(found[0], self._backend, self._reduction)


def _in_order(backend: Any) -> SimpleNamespace:
    """The backend, with answers of the form that the reference gives."""
    ports = {port: getattr(backend, port) for port in claims(backend)}
    formed = {port: _formed(port, ports[port]) for port in _NAMED.keys() & ports.keys()}
    return SimpleNamespace(**{**ports, **formed})


def _formed(port: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **call: _NAMED[port](**normalise(port, answer(**call)))


#: Ports that the reference answers with a named tuple.
_NAMED = {
    port: namedtuple(port, tuple(PORTS[port].results))
    for port in ("mask", "score", "head", "loss", "mask_step", "score_step", "head_step")
}
around = _Around()


def portable_mutants(backend: str) -> tuple[Mutant, ...]:
    """For each requirement and its ports one mutant that ``quick`` sees, around a backend.

    Raises
    ------
    UnknownTarget, FrameworkMissing, DeviceMissing, TargetError : the backend cannot be used.
    """
    target = resolve(backend)
    ports, reduction = set(claims(target)), getattr(target, "loss_reduction", None)
    chosen: dict[tuple[str, tuple[str, ...]], Mutant] = {}
    for mutant in MUTANTS:
        its = getattr(resolve(mutant.target), "loss_reduction", None)
        fits = set(mutant.ports) <= ports and its in (None, reduction)
        if fits and mutant.profile == "quick" and is_portable(mutant):
            chosen.setdefault((mutant.requirement, mutant.ports), mutant)
    here = f"{__name__}:around.{backend}"
    return tuple(replace(m, target=f"{here}.{m.name}") for m in chosen.values())


def is_portable(mutant: Mutant) -> bool:
    """Whether it has nothing of the reference in it but the correct port that it is given."""
    function = WRAPPERS.get(mutant.name)
    return function is not None and not any(_is_inside(it) for it in _reached(function, set()))


#: What is made of the reference's parts, and what reaches into them.
_HOMES = (inside.__name__, plain.__name__, correct.__name__, "unittest.mock")


def _is_inside(found: object) -> bool:
    home = getattr(found, "__module__", "") or ""
    if isinstance(found, ModuleType):
        return found.__name__.partition(".")[0] == "mlm_spec" or found is inside
    return home in _HOMES or (
        home.partition(".")[0] == "mlm_spec" and isinstance(found, FunctionType)
    )


def _reached(function: Any, seen: set[str]) -> Iterator[object]:
    """What the function names, and what the functions of its module that it names do."""
    for name in _names(function.__code__):
        found = function.__globals__.get(name)
        if found is None or name in seen:
            continue
        seen.add(name)
        yield found
        if isinstance(found, FunctionType) and found.__module__ == function.__module__:
            yield from _reached(found, seen)


@cache
def _names(code: CodeType) -> frozenset[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(code.co_names).union(*map(_names, inner))

"""What is installed, without importing it: frameworks that cannot live together would meet here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib import metadata

from mlm_conformance.field.registry import Peer

__all__ = ["absent_packages", "installed_versions"]


def absent_packages(peer: Peer) -> list[str]:
    """The packages that an implementation needs and that are not there."""
    return [package for module, package in peer.packages.items() if not _is_there(module)]


def installed_versions(peers: Iterable[Peer]) -> dict[str, str]:
    """The installed versions of what these implementations need, by package."""
    wanted = {package for peer in peers for package in peer.packages.values()}
    found = {}
    for package in sorted(wanted, key=str.lower):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

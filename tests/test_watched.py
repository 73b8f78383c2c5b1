"""What happens to a file in the meantime is seen afterwards, whoever was quicker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlm_conformance import watched
from mlm_conformance.watched import Event, Unwatchable, moments_without, watching

NAME = "run.safetensors"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_bytes(b"one")
    return tmp_path / NAME


def seen(path: Path, *what: object) -> list[str]:
    """What happened that should not have."""
    with watching(path.parent) as happened:
        for step in what:
            step()  # type: ignore[operator]
        return moments_without(NAME, happened())


def other(path: Path) -> Path:
    return path.with_name("other")


def replaced(path: Path) -> None:
    other(path).write_bytes(b"two")
    os.replace(other(path), path)


def test_another_file_that_takes_the_name_is_no_moment_without_one(path: Path) -> None:
    assert seen(path, lambda: replaced(path)) == []
    assert seen(path, lambda: replaced(path), lambda: replaced(path)) == []


def test_all_else_is(path: Path) -> None:
    assert "changed" in seen(path, lambda: path.write_bytes(b"three"))
    assert seen(path, lambda: os.truncate(path, 1)) == ["changed"]
    assert seen(path, path.unlink, lambda: replaced(path)) == ["removed"]
    away = lambda: os.replace(path, other(path))  # noqa: E731
    back = lambda: os.replace(other(path), path)  # noqa: E731
    assert seen(path, away, back) == ["moved away"]
    assert seen(path, path.unlink, path.touch) == ["removed", "made"]


def test_what_was_asked_for_is_not_told_again(path: Path) -> None:
    with watching(path.parent) as happened:
        replaced(path)
        assert Event("moved here", NAME) in happened()
        assert happened() == []


def test_files_that_exchange_their_names_do_so_in_one_step() -> None:
    exchange = [Event("moved away", "new"), Event("moved here", NAME), Event("moved away", NAME)]
    assert moments_without(NAME, exchange) == []
    assert moments_without(NAME, exchange[::-1]) == ["moved away"]


def test_what_the_system_does_not_tell_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unwatchable, match="No such file"), watching(path.parent / "absent"):
        pass
    monkeypatch.setattr(watched.ctypes, "CDLL", lambda *a, **b: object())
    with pytest.raises(Unwatchable, match="does not say"), watching(path.parent):
        pass

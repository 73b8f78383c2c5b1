"""Targets that misbehave, for the tests of how the suite survives them.

`Target.random_words` looks up what to do in `BEHAVIOURS` by the first word of ``key``; `key_for`
makes such a key.  The behaviour ``good`` answers as a target should.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlm_spec.errors import DeviceError, IdRangeError

Words = namedtuple("Words", "words")
MiB = 2**20


class DisguisedError(Exception):
    """Bears the name of a documented error, but is none."""


DisguisedError.__name__ = DisguisedError.__qualname__ = "IdRangeError"


def good(counter: Any) -> Any:
    return Words(counter)


def sleeps(counter: Any) -> Any:
    time.sleep(3600)


def exits_with_3(counter: Any) -> Any:
    print("going down")
    os._exit(3)


def calls_sys_exit(counter: Any) -> Any:
    sys.exit(3)


def interrupts_itself(counter: Any) -> Any:
    raise KeyboardInterrupt


def segfaults(counter: Any) -> Any:
    ctypes.string_at(0)


def kills_itself(counter: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after_answering(counter: Any) -> Any:
    print(os.getpid())
    subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -9 {os.getpid()}"])
    return Words(counter)


def prints_without_end(counter: Any) -> Any:
    while True:
        print("and another thing " * 20)


def prints_a_megabyte(counter: Any) -> Any:
    print("x" * MiB)
    print("the end")
    return Words(counter)


def prints_rubbish(counter: Any) -> Any:
    os.write(1, b"MLM1\xff\xff\xff\xff\x00\x80 rubbish")
    os.write(2, b"\xfe")
    return Words(counter)


def prints_surrogates(counter: Any) -> Any:
    print("\ud800 is no text")
    return Words(counter)


def reads_stdin(counter: Any) -> Any:
    assert sys.stdin.read() == ""
    return Words(counter)


def closes_standard_files(counter: Any) -> Any:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()
    return Words(counter)


def closes_every_file(counter: Any) -> Any:
    os.closerange(3, 256)
    return Words(counter)


def forks_and_returns_twice(counter: Any) -> Any:
    os.fork()
    return Words(counter)


def leaves_a_sleeper(counter: Any) -> Any:
    pid = os.fork()
    if not pid:
        time.sleep(3600)
    print("sleeper", pid)
    return Words(counter)


def dies_beside_an_escaped_sleeper(counter: Any) -> Any:
    # A fork holds the pipes of the protocol too; in a session of its own, nothing ends it.
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(30)
        os._exit(0)
    print("sleeper", pid)
    os._exit(3)


def raises_a_value_error(counter: Any) -> Any:
    raise ValueError("no such words")


def raises_a_documented_error(counter: Any) -> Any:
    raise IdRangeError("targets[3, 7]", 30522, "an id in 0..30521")


def raises_a_namesake(counter: Any) -> Any:
    raise DisguisedError("not the real one")


def raises_without_text(counter: Any) -> Any:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raise MuteError


def raises_deep_down(counter: Any) -> Any:
    return raises_deep_down(counter)


def raises_in_a_long_chain(counter: Any) -> Any:
    error: Exception | None = None
    for link in range(30):
        try:
            raise ValueError(link) from error
        except ValueError as caught:
            error = caught
    raise ValueError("the end") from error


def modifies_and_raises(counter: Any) -> Any:
    counter[0, 0] += 1
    raise ValueError("too late")


def modifies(counter: Any) -> Any:
    counter[0, 0] += 1
    return Words(counter)


def draws_from_python(counter: Any) -> Any:
    random.random()
    return Words(counter)


def draws_from_numpy(counter: Any) -> Any:
    np.random.rand()
    return Words(counter)


def allocates_64_mib(counter: Any) -> Any:
    np.ones(64 * MiB, np.uint8)
    return Words(counter)


def allocates_64_mib_in_small_pieces(counter: Any) -> Any:
    # Small enough that the allocator keeps them for later.
    pieces = [np.ones(2**14, np.uint8) for _ in range(64 * MiB // 2**14)]
    return Words(counter[: len(pieces)])


def leaves_64_mib_of_garbage(counter: Any) -> Any:
    cycle: list[Any] = [np.ones(64 * MiB, np.uint8)]
    cycle.append(cycle)
    return Words(counter)


def collects_and_allocates_64_mib(counter: Any) -> Any:
    gc.collect()
    return allocates_64_mib(counter)


def returns_none(counter: Any) -> Any:
    return None


def returns_text(counter: Any) -> Any:
    return "words"


def returns_objects(counter: Any) -> Any:
    return Words(np.array([object()]))


def returns_a_misspelt_field(counter: Any) -> Any:
    return {"words": counter, "wrods": counter}


def returns_a_longer_tuple(counter: Any) -> Any:
    return counter, counter


def returns_an_extended_float(counter: Any) -> Any:
    return Words(counter.astype(np.longdouble))


def returns_something_not_convertible(counter: Any) -> Any:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise TypeError("it is on another device")

    return Words(Tensor())


BEHAVIOURS: dict[str, Callable[[Any], Any]] = {
    f.__name__: f
    for f in (
        *(good, sleeps, exits_with_3, calls_sys_exit, interrupts_itself, segfaults, kills_itself),
        *(dies_after_answering, prints_without_end, prints_a_megabyte, prints_rubbish),
        *(prints_surrogates, reads_stdin, closes_standard_files, closes_every_file),
        *(forks_and_returns_twice, leaves_a_sleeper, dies_beside_an_escaped_sleeper),
        *(raises_a_value_error, raises_a_documented_error, raises_a_namesake),
        *(
            raises_without_text,
            raises_deep_down,
            raises_in_a_long_chain,
            modifies_and_raises,
            modifies,
        ),
        *(draws_from_python, draws_from_numpy, allocates_64_mib),
        *(
            allocates_64_mib_in_small_pieces,
            leaves_64_mib_of_garbage,
            collects_and_allocates_64_mib,
            returns_none,
            returns_text,
            returns_objects,
        ),
        *(returns_a_misspelt_field, returns_a_longer_tuple, returns_an_extended_float),
        returns_something_not_convertible,
    )
}


def key_for(name: str) -> np.ndarray:
    """The key, uint32 (1, 4), that makes `Target.random_words` show a behaviour."""
    return np.array([[list(BEHAVIOURS).index(name), 0, 0, 0]], np.uint32)


class Target:
    def __init__(self) -> None:
        self.versions = {"numpy": np.__version__, "misbehaviour": 1}

    def random_words(self, key: Any, counter: Any) -> Any:
        return list(BEHAVIOURS.values())[key[0, 0]](counter)


class Echo:
    """Every argument of every kind comes back."""

    loss_reduction = "mean"

    def __init__(self, *, device: str) -> None:
        if device not in ("cpu", "toy"):
            raise DeviceError("device", device, "cpu or toy")
        self.versions = {"device": device}

    def policy(self, fields: Any) -> Any:
        return fields

    def mask(self, tokens: Any, policy: Any, seed: int, epoch: int, **rest: Any) -> Any:
        policy_size = np.array(policy.pool_size)
        return {"inputs": tokens, "targets": np.uint64(seed), "selected": policy_size}

    def score(self, logits: Any, targets: Any, selected: Any, weights: Any) -> Any:
        # A plain tuple, its last and optional field left out; a list, numbers.
        return logits, [0.5, 0.25], 2

    def loss(self, logits: Any, labels: Any, ignore_index: int, num_items: Any) -> Any:
        return float(logits.sum())

    def head(self, hidden: Any, weight: Any, bias: Any, **rest: Any) -> Any:
        return SimpleNamespace(
            sum=np.float32(1), count=1, grad_hidden=hidden, grad_weight=weight, grad_bias=bias
        )

    def raise_for_status(self, status: int, mean: bool = False) -> None:
        if status and mean:
            raise ValueError(status)


def on_cpu_only() -> Target:
    """A function that makes a target, and takes no device."""
    return Target()


def with_a_banner() -> Target:
    print("a banner, as frameworks print")
    return Target()


def with_options(**options: Any) -> Target:
    """Might ignore ``device=``; so it is not passed."""
    assert not options
    return Target()


INSTANCE = Target()
EMPTY = SimpleNamespace(name="no port here")
UNDECLARED = SimpleNamespace(loss=lambda **arguments: 0.0)


def broken_constructor() -> Any:
    raise RuntimeError("the kernels do not compile")


def needs_a_framework() -> Any:
    import no_such_framework  # noqa: F401


def needs_a_part() -> Any:
    import email.no_such_part  # noqa: F401


def exits_at_once() -> Any:
    sys.exit(0)


def dies_at_once() -> Any:
    print("cannot even start", flush=True)
    os._exit(7)


def hangs_at_once() -> Any:
    time.sleep(3600)

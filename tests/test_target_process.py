"""How the suite reaches a target, and what it survives."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance.answer import read_answer, read_hello
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.ports import PORTS, MalformedAnswer, normalise
from mlm_conformance.process import Answer, Target, TargetProcess, open_target
from mlm_conformance.resolve import (
    DeviceMissing,
    FrameworkMissing,
    TargetError,
    UnknownTarget,
    claims,
    resolve,
)

from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy

TARGETS = Path(__file__).parent / "targets"
MiB = 2**20
POLICY = MaskingPolicy(Bernoulli("3/20"), Corruption("4/5", "1/10", "1/10"), 100, mask_id=4)


@pytest.fixture(autouse=True)
def in_the_targets_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TARGETS)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it would hide what is not flushed
    monkeypatch.setattr(sys, "path", [str(TARGETS), *sys.path])


@pytest.fixture(scope="module")
def process() -> Iterator[TargetProcess]:
    with TargetProcess("misbehaving:Target", cwd=TARGETS) as target:
        yield target


@pytest.fixture(scope="module")
def hurried() -> Iterator[TargetProcess]:
    """Gives up after a second."""
    with TargetProcess("misbehaving:Target", limit=1.0, cwd=TARGETS) as target:
        assert behave(target, "good").kind == "result"
        yield target


@pytest.fixture(params=["child", "in process"])
def either(request: pytest.FixtureRequest) -> Target:
    """The same target, both ways."""
    if request.param == "child":
        child: Target = request.getfixturevalue("process")
        return child
    return InProcessTarget("misbehaving:Target")


@pytest.fixture(scope="module")
def echo() -> Iterator[TargetProcess]:
    with TargetProcess("misbehaving:Echo", cwd=TARGETS) as target:
        yield target


@pytest.fixture(scope="module")
def program() -> Iterator[TargetProcess]:
    with TargetProcess(f"exec:{sys.executable} score_program.py", cwd=TARGETS) as target:
        yield target


def behave(target: Target, name: str, **watch: bool) -> Answer:
    sys.path.insert(0, str(TARGETS))
    from misbehaving import key_for

    counter = np.arange(4, dtype=np.uint32).reshape(1, 4)
    return target.call("random_words", key=key_for(name), counter=counter, **watch)


def wait_until(happened: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happened()


def environment_of_a_suite() -> dict[str, str]:
    """In which this module and the targets can be imported."""
    folders = (str(TARGETS), str(TARGETS.parent), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


# ------------------------------------------------------------------- what ends the process


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ("exits_with_3", "ended with status 3"),
        ("segfaults", "was ended by SIGSEGV (signal 11)"),
        ("kills_itself", "was ended by SIGKILL (signal 9)"),
        ("interrupts_itself", "was ended by SIGINT (signal 2)"),
        ("closes_every_file", "ended with status 1"),
    ],
)
def test_a_death_is_told_and_the_next_call_finds_a_fresh_process(
    process: TargetProcess, behaviour: str, text: str
) -> None:
    before = process.restarts
    answer = behave(process, behaviour)
    assert (answer.kind, answer.text) == ("died", text)
    assert answer.fields == {}
    assert behave(process, "good").kind == "result"
    assert process.restarts == before + 1


@pytest.mark.parametrize("behaviour", ["sleeps", "prints_without_end"])
def test_a_call_without_end_is_ended_and_the_next_call_works(
    hurried: TargetProcess, behaviour: str
) -> None:
    before = hurried.restarts
    answer = behave(hurried, behaviour)
    assert (answer.kind, answer.text) == ("timed_out", "gave no answer within 1 s")
    assert 1.0 <= answer.seconds < 10.0
    assert len(answer.output) <= 2**16
    assert behave(hurried, "good").kind == "result"
    assert hurried.restarts == before + 1


def test_the_first_call_of_a_port_has_the_longer_limit() -> None:
    with TargetProcess("misbehaving:Target", limit=0.2, first_limit=1.5) as target:
        first = behave(target, "sleeps").text
        assert first.startswith("gave no answer within 1.5 s (the time limit is 0.2 s, and longer")
        assert behave(target, "sleeps").text == "gave no answer within 0.2 s"


def test_the_output_of_a_dying_call_is_kept(process: TargetProcess) -> None:
    assert behave(process, "exits_with_3").output == "going down\n"


def test_a_crash_shows_the_line_that_crashed(process: TargetProcess) -> None:
    output = behave(process, "segfaults").output
    assert "Segmentation fault" in output
    assert "in segfaults" in output


def test_a_death_between_two_calls_is_not_hidden(process: TargetProcess) -> None:
    first = behave(process, "dies_after_answering")
    assert first.kind == "result"
    assert wait_until(lambda: is_gone(int(first.output)))
    answer = behave(process, "good")
    assert (answer.kind, answer.text) == ("died", "was ended by SIGKILL (signal 9)")
    assert behave(process, "good").kind == "result"


def test_a_death_is_seen_although_a_descendant_holds_the_pipes(process: TargetProcess) -> None:
    started = time.monotonic()
    answer = behave(process, "dies_beside_an_escaped_sleeper")
    os.kill(int(answer.output.split()[1]), signal.SIGKILL)
    assert (answer.kind, answer.text) == ("died", "ended with status 3")
    assert time.monotonic() - started < 20.0  # the descendant sleeps for 30
    assert behave(process, "good").kind == "result"


def test_what_a_target_started_ends_with_it() -> None:
    with TargetProcess("misbehaving:Target") as target:
        sleeper = int(behave(target, "leaves_a_sleeper").output.split()[1])
        assert not is_gone(sleeper)
    assert wait_until(lambda: is_gone(sleeper))


def test_a_target_that_sleeps_does_not_outlive_the_suite(tmp_path: Path) -> None:
    script = tmp_path / "suite.py"
    script.write_text(
        "from mlm_conformance.process import TargetProcess\n"
        "from test_target_process import behave\n"
        "target = TargetProcess('misbehaving:Target')\n"
        "behave(target, 'good')\n"
        "print(target._child._process.pid, flush=True)\n"
        "behave(target, 'sleeps')\n"
    )
    suite = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment_of_a_suite(),
    )
    assert suite.stdout is not None
    pid = int(suite.stdout.readline())
    time.sleep(0.3)
    suite.kill()
    suite.wait()
    suite.stdout.close()
    assert wait_until(lambda: is_gone(pid))


def test_an_interrupted_call_leaves_no_reply_for_the_next(
    process: TargetProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    behave(process, "good")
    with monkeypatch.context() as patch:
        patch.setattr("mlm_conformance.child.read_frame", interrupt)
        with pytest.raises(KeyboardInterrupt):
            behave(process, "raises_a_value_error")
    assert behave(process, "good").kind == "result"


# ------------------------------------------------------------------- what a process survives


@pytest.mark.parametrize(
    "behaviour",
    [
        *("prints_rubbish", "prints_a_megabyte", "prints_surrogates", "reads_stdin"),
        "forks_and_returns_twice",
    ],
)
def test_a_harmless_oddity_costs_nothing(process: TargetProcess, behaviour: str) -> None:
    before = process.restarts
    answer = behave(process, behaviour)
    assert (answer.kind, answer.text) == ("result", "")
    assert np.array_equal(answer.fields["words"], [[0, 1, 2, 3]])
    for _ in range(3):  # no reply too many is on its way
        assert behave(process, "raises_a_value_error").kind == "raised"
        assert behave(process, "good").kind == "result"
    assert process.restarts == before


def test_a_target_may_close_its_standard_files() -> None:
    with TargetProcess("misbehaving:Target") as target:
        for _ in range(3):
            assert behave(target, "closes_standard_files").kind == "result"
            assert behave(target, "good").kind == "result"
        assert target.restarts == 0


def test_printed_bytes_are_output_and_not_protocol(process: TargetProcess) -> None:
    assert behave(process, "prints_rubbish").output.startswith(
        "MLM1\\xff\\xff\\xff\\xff\0\\x80 rubb"
    )


def test_the_last_64_kib_of_the_output_are_kept(process: TargetProcess) -> None:
    output = behave(process, "prints_a_megabyte").output
    assert len(output) == 2**16
    assert output.endswith("x\nthe end\n")


def test_output_belongs_to_the_call_that_printed_it(process: TargetProcess) -> None:
    for _ in range(20):
        assert "\\xfe" in behave(process, "prints_rubbish").output
        assert behave(process, "good").output == ""


def test_what_a_framework_prints_while_it_loads_belongs_to_no_call() -> None:
    with TargetProcess("misbehaving:with_a_banner") as target:
        assert behave(target, "good").output == ""


def test_a_file_beside_a_target_does_not_shadow_what_the_suite_imports(tmp_path: Path) -> None:
    for name in ("json", "ml_dtypes"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "mine.py").write_text("def random_words(key, counter):\n    return counter\n")
    (tmp_path / "mine_too.py").write_text("import mine\nTARGET = mine\n")
    with TargetProcess("mine_too:TARGET", cwd=tmp_path) as target:
        assert target.hello().claims == ("random_words",)


def test_a_target_inherits_no_standard_input(tmp_path: Path) -> None:
    script = (
        "from mlm_conformance.process import TargetProcess\n"
        "from test_target_process import behave\n"
        "with TargetProcess('misbehaving:Target') as target:\n"
        "    print(behave(target, 'reads_stdin').kind)\n"
        "print(input())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="still here",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment_of_a_suite(),
    )
    assert done.stdout == "result\nstill here\n"


# ------------------------------------------------------------------- what a call says


def test_an_answer_is_the_named_arrays(either: Target) -> None:
    answer = behave(either, "good")
    assert answer.kind == "result"
    assert list(answer.fields) == ["words"]
    assert answer.fields["words"].dtype == np.uint32
    assert np.array_equal(answer.fields["words"], [[0, 1, 2, 3]])
    assert (answer.raised, answer.text, answer.mutated) == (None, "", ())
    assert (answer.peak_growth, answer.global_random_advanced) == (None, None)
    assert 0.0 < answer.seconds < 10.0


def test_an_exception_says_what_it_is(either: Target) -> None:
    answer = behave(either, "raises_a_value_error")
    assert answer.kind == "raised"
    assert answer.raised is not None
    assert answer.raised.type == "ValueError"
    assert answer.raised.classes == ("ValueError", "Exception", "BaseException")
    assert answer.raised.message == "no such words"
    assert (answer.raised.where, answer.raised.got, answer.raised.expected) == (None, None, None)
    assert "in raises_a_value_error" in answer.raised.traceback
    assert behave(either, "good").kind == "result"


def test_a_documented_error_brings_its_three_parts(either: Target) -> None:
    raised = behave(either, "raises_a_documented_error").raised
    assert raised is not None
    assert raised.classes[:4] == ("IdRangeError", "InputError", "MlmSpecError", "ValueError")
    assert (raised.where, raised.got) == ("targets[3, 7]", "30522")
    assert raised.expected == "an id in 0..30521"


def test_a_namesake_of_a_documented_error_is_not_taken_for_it(either: Target) -> None:
    raised = behave(either, "raises_a_namesake").raised
    assert raised is not None
    assert raised.type == "misbehaving.IdRangeError"
    assert "IdRangeError" not in raised.classes


@pytest.mark.parametrize(
    ("behaviour", "name"),
    [
        ("calls_sys_exit", "SystemExit"),
        ("raises_deep_down", "RecursionError"),
        ("raises_in_a_long_chain", "ValueError"),
        ("raises_without_text", "misbehaving.raises_without_text.<locals>.MuteError"),
    ],
)
def test_an_odd_exception_is_an_exception(either: Target, behaviour: str, name: str) -> None:
    raised = behave(either, behaviour).raised
    assert raised is not None
    assert raised.type == name
    assert len(raised.traceback.splitlines()) <= 20
    assert behave(either, "good").kind == "result"


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ("returns_none", "random_words: answered None; expected a mapping"),
        ("returns_text", "random_words: words is a str; expected a NumPy array"),
        ("returns_objects", "expected a NumPy array of dtype bfloat16, bool"),
        ("returns_a_misspelt_field", "random_words: unknown field wrods; expected only words"),
        ("returns_a_longer_tuple", "random_words: a tuple of 2; expected 1: words"),
        ("returns_an_extended_float", "not float128"),
        ("returns_something_not_convertible", "(TypeError: it is on another device)"),
    ],
)
def test_a_result_of_no_known_form_is_malformed(either: Target, behaviour: str, text: str) -> None:
    answer = behave(either, behaviour)
    assert answer.kind == "malformed"
    assert text in answer.text
    assert behave(either, "good").kind == "result"


@pytest.mark.parametrize("behaviour", ["modifies", "modifies_and_raises"])
def test_a_modified_argument_is_named(either: Target, behaviour: str) -> None:
    counter = np.zeros((1, 4), np.uint32)
    from misbehaving import key_for

    answer = either.call("random_words", key=key_for(behaviour), counter=counter)
    assert answer.mutated == ("counter",)
    assert not counter.any()  # ours is not what the target had
    assert behave(either, "good").mutated == ()


@pytest.mark.parametrize("value", [-0.0, np.nan])
def test_arguments_are_compared_by_their_bytes(value: float) -> None:
    class Negates:
        def random_words(self, key: Any, counter: Any) -> Any:
            np.negative(counter, out=counter, where=key)
            return key

    target = InProcessTarget(Negates())
    counter = np.full(3, value)
    # NaN is unequal to itself, and 0.0 equal to -0.0: a comparison of numbers errs both ways.
    assert target.call("random_words", key=np.array(False), counter=counter).mutated == ()
    assert target.call("random_words", key=np.array(True), counter=counter).mutated == ("counter",)


@pytest.mark.parametrize("behaviour", ["draws_from_python", "draws_from_numpy"])
def test_a_draw_from_a_global_random_state_is_noticed(either: Target, behaviour: str) -> None:
    assert behave(either, behaviour, watch_random=True).global_random_advanced is True
    assert behave(either, "good", watch_random=True).global_random_advanced is False
    assert behave(either, behaviour).global_random_advanced is None


def test_the_suite_itself_draws_nothing_from_global_random_states() -> None:
    target = InProcessTarget("misbehaving:Target")
    before = random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]
    behave(target, "good", watch_random=True)
    assert (random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]) == before


@pytest.mark.parametrize("behaviour", ["allocates_64_mib", "allocates_64_mib_in_small_pieces"])
def test_the_peak_of_a_call_is_measured_each_time_anew(
    process: TargetProcess, behaviour: str
) -> None:
    for _ in range(3):
        large = behave(process, behaviour, measure_memory=True).peak_growth
        small = behave(process, "good", measure_memory=True).peak_growth
        assert large is not None
        assert small is not None
        # The kernel counts pages by the batch: a MiB says nothing, 64 say everything.
        assert 62 * MiB < large < 80 * MiB
        assert small < 4 * MiB


def test_garbage_of_an_earlier_call_hides_no_growth(process: TargetProcess) -> None:
    behave(process, "leaves_64_mib_of_garbage")
    growth = behave(process, "collects_and_allocates_64_mib", measure_memory=True).peak_growth
    assert growth is not None
    assert growth > 62 * MiB


# ------------------------------------------------------------------- the two ways agree


ECHO_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("policy", {"fields": {"rate": 0.15, "n": 2**64, "pool": (1, 2), "odd": [None, {"$x": 1}]}}),
    ("policy", {"fields": {1: "a key that is no text", "f": float("inf")}}),
    ("raise_for_status", {"status": 3}),
    ("raise_for_status", {"status": 3, "mean": True}),
    (
        "mask",
        {
            "tokens": np.arange(6).reshape(2, 3),
            **dict.fromkeys(("sequence_id", "position", "eligible"), np.ones((2, 3), bool)),
            "word_id": None,
            "policy": POLICY,
            "seed": 2**64 - 1,
            "epoch": 0,
        },
    ),
    (
        "score",
        {
            "logits": np.linspace(-1, 1, 12, dtype=np.float16).reshape(1, 3, 4),
            "targets": np.zeros((1, 3), np.int32),
            "selected": np.ones((1, 3), bool),
            "weights": None,
        },
    ),
    (
        "loss",
        {
            "logits": np.ones((1, 1, 3)),
            "labels": np.zeros((1, 1), int),
            "ignore_index": -100,
            "num_items": None,
        },
    ),
    (
        "head",
        {
            "hidden": np.zeros((1, 0, 2)),
            "weight": np.asfortranarray(np.eye(2)),
            **dict.fromkeys(("bias", "targets", "selected", "weights")),
        },
    ),
]


@pytest.mark.parametrize(("port", "arguments"), ECHO_CALLS)
def test_both_ways_give_the_same_answer(
    echo: TargetProcess, port: str, arguments: dict[str, Any]
) -> None:
    one = echo.call(port, **arguments)
    other = InProcessTarget("misbehaving:Echo").call(port, **arguments)
    assert one.kind == other.kind
    assert one.kind == ("raised" if "mean" in arguments else "result")
    assert list(one.fields) == list(other.fields)
    for name, value in one.fields.items():
        twin = other.fields[name]
        assert type(value) is type(twin)
        if isinstance(value, np.ndarray):
            assert value.dtype == twin.dtype
            assert value.tobytes() == twin.tobytes()
            assert value.shape == twin.shape
        else:
            assert value == twin


def test_what_goes_in_comes_back(echo: TargetProcess) -> None:
    fields = ECHO_CALLS[0][1]["fields"]
    assert echo.call("policy", fields=fields).fields == {**fields, "pool": [1, 2]}
    masked = echo.call("mask", **ECHO_CALLS[4][1]).fields
    assert masked["targets"] == 2**64 - 1
    assert masked["selected"] == POLICY.pool_size
    assert echo.call("loss", **ECHO_CALLS[6][1]).fields == {"loss": 3.0, "grad_logits": None}
    scored = echo.call("score", **ECHO_CALLS[5][1]).fields
    assert scored["log_likelihood"].dtype == np.float16
    assert (scored["count"], scored["grad_logits"]) == (2, None)
    headed = echo.call("head", **ECHO_CALLS[7][1]).fields
    assert headed["grad_hidden"].shape == (1, 0, 2)
    assert headed["grad_bias"] is None


def test_a_restart_that_was_asked_for_is_not_counted() -> None:
    with TargetProcess("misbehaving:Target") as target:
        behave(target, "good")
        target.restart()
        assert behave(target, "good").kind == "result"
        assert target.restarts == 0


def test_a_call_that_the_suite_got_wrong_is_an_error_of_the_suite(echo: TargetProcess) -> None:
    with pytest.raises(ValueError, match="does not claim random_words"):
        behave(echo, "good")
    with pytest.raises(ValueError, match=r"missing \['fields'\], unknown \['field'\]"):
        echo.call("policy", field={})


# ------------------------------------------------------------------- names of targets


def test_hello_says_what_a_target_is(echo: TargetProcess) -> None:
    hello = echo.hello()
    assert hello.name == "misbehaving:Echo"
    assert hello.claims == ("mask", "score", "head", "loss", "policy", "raise_for_status")
    assert hello.loss_reduction == "mean"
    assert hello.versions == {"device": "cpu"}
    assert hello.python == sys.version.split()[0]
    assert hello.platform
    assert InProcessTarget("misbehaving:Echo").hello() == hello


def test_an_installed_backend_is_found_by_its_name() -> None:
    assert "random_words" in claims(resolve("misbehaving:INSTANCE"))
    with pytest.raises(UnknownTarget, match=r"'nonesuch'; installed: .*numpy"):
        resolve("nonesuch")


def test_two_backends_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    from mlm_conformance.resolve import GROUP

    twins = EntryPoints(EntryPoint("twin", f"misbehaving:{x}", GROUP) for x in ("Target", "Echo"))
    monkeypatch.setattr("mlm_conformance.resolve.entry_points", lambda group: twins)
    with pytest.raises(TargetError, match="misbehaving:Target, misbehaving:Echo"):
        resolve("twin")


def test_a_device_reaches_a_target_that_takes_one() -> None:
    assert resolve("misbehaving:Echo", "toy").versions == {"device": "toy"}


@pytest.mark.parametrize("name", ["Target", "on_cpu_only", "with_options", "INSTANCE"])
def test_a_target_without_a_device_runs_on_the_cpu_and_nowhere_else(name: str) -> None:
    assert claims(resolve(f"misbehaving:{name}")) == ("random_words",)
    with pytest.raises(TargetError, match="takes no device=, so it cannot run on 'cuda'"):
        resolve(f"misbehaving:{name}", "cuda")


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize(
    ("name", "device", "error", "text"),
    [
        ("misbehaving:Echo", "cuda", DeviceMissing, "device is cuda; expected cpu or toy"),
        ("misbehaving:needs_a_framework", "cpu", FrameworkMissing, "needs no_such_framework"),
        ("misbehaving:needs_a_part", "cpu", TargetError, "No module named 'email.no_such_part'"),
        ("no_such_module:Target", "cpu", UnknownTarget, "there is no module 'no_such_module'"),
        ("misbehaving:no.such", "cpu", UnknownTarget, "misbehaving has no attribute 'no.such'"),
        ("misbehaving:", "cpu", UnknownTarget, "is not of the form module:attribute"),
        ("./misbehaving.py:Echo", "cpu", UnknownTarget, "for that file write misbehaving:Echo"),
        ("a/b.py:C", "cpu", UnknownTarget, "for that file write b:C in the folder a"),
        ("a-b:C", "cpu", UnknownTarget, "'a-b' is no name of a module"),
        ("misbehaving:broken_constructor", "cpu", TargetError, "in broken_constructor"),
        ("misbehaving:exits_at_once", "cpu", TargetError, "SystemExit"),
        ("misbehaving:Echo.score", "cpu", TargetError, "cannot be made: missing a required"),
        ("misbehaving:EMPTY", "cpu", TargetError, "has none of the methods mask, score, head"),
        ("misbehaving:UNDECLARED", "cpu", TargetError, "its loss_reduction is None; expected"),
    ],
)
def test_an_unusable_target_says_why(
    name: str, device: str, error: type[Exception], text: str, in_process: bool
) -> None:
    with pytest.raises(error) as caught:
        open_target(name, device, in_process=in_process).hello()
    assert type(caught.value) is error
    assert text in str(caught.value)


def test_a_broken_constructor_is_shown_by_its_own_lines() -> None:
    with pytest.raises(TargetError) as caught:
        resolve("misbehaving:broken_constructor")
    files = re.findall(r'File "([^"]*)"', caught.value.detail)
    assert [Path(file).name for file in files] == ["misbehaving.py"]


def test_a_target_that_dies_while_it_loads_is_unusable() -> None:
    with pytest.raises(TargetError, match="hello: ended with status 7\ncannot even start"):
        TargetProcess("misbehaving:dies_at_once").hello()


def test_a_target_that_hangs_while_it_loads_is_unusable() -> None:
    target = TargetProcess("misbehaving:hangs_at_once", limit=0.1, first_limit=1.0)
    with pytest.raises(
        TargetError, match=r"hello: gave no answer within 1 s \(the time limit is 0"
    ):
        target.hello()


# ------------------------------------------------------------------- programs of their own


def score_arguments(dtype: str) -> dict[str, Any]:
    logits = np.log(np.array([[[1.0, 3.0], [1.0, 1.0]]])).astype(dtype)
    targets, selected = np.array([[1, 0]]), np.array([[True, False]])
    return {"logits": logits, "targets": targets, "selected": selected, "weights": None}


def test_a_program_answers_as_a_python_target_does(program: TargetProcess) -> None:
    hello = program.hello()
    assert (hello.name, hello.claims) == ("score_program", ("score",))
    assert hello.versions == {"toy": "1"}
    answer = program.call("score", **score_arguments("float64"))
    assert answer.kind == "result"
    assert answer.fields["log_likelihood"].shape == (1, 2)
    assert answer.fields["log_likelihood"][0, 1] == 0.0
    assert answer.fields["sum"] == answer.fields["log_likelihood"][0, 0] < 0.0
    assert (answer.fields["count"], answer.fields["grad_logits"]) == (1, None)
    assert answer.seconds > 0.0


def test_a_program_raises_documented_errors_too(program: TargetProcess) -> None:
    raised = program.call("score", **score_arguments("float32")).raised
    assert raised is not None
    assert raised.classes == ("DTypeError", "InputError", "MlmSpecError", "ValueError")
    assert (raised.where, raised.got) == ("logits", "float32")


def test_a_program_can_lack_the_device() -> None:
    with pytest.raises(DeviceMissing, match="device is cuda; expected cpu"):
        TargetProcess(f"exec:{sys.executable} score_program.py", "cuda").hello()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("exec:no-such-program", "cannot be started"),
        ("exec:cat", "claims is None; expected a list of texts"),
        ("exec:echo hello world", "a frame begins with b'MLM1'; got b'hello wo'"),
        ("exec:echo hi", "a frame begins with b'MLM1'; got b'hi\\n'"),
        ("exec:printf MLM1", "ended with status 0 in the middle of a reply: a frame ends inside"),
        ("exec:sh -c 'echo oops >&2; exit 4'", "hello: ended with status 4\noops"),
        ("exec:", "has no command"),
        ("exec:'", "cannot be split"),
    ],
)
def test_a_program_that_speaks_no_frames_is_unusable(command: str, text: str) -> None:
    with pytest.raises(TargetError) as caught:
        TargetProcess(command).hello()
    assert text in str(caught.value)


def test_a_program_cannot_run_in_this_process() -> None:
    with pytest.raises(TargetError, match="cannot run in this process"):
        open_target("exec:cat", in_process=True)


def test_a_program_that_dies_in_the_middle_of_a_reply_has_died(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(TARGETS)!r})\n"
        "import score_program as p\n"
        "source, sink = sys.stdin.buffer, sys.stdout.buffer\n"
        "p.read(source)\n"
        "p.write(sink, {'claims': ['score']})\n"
        "p.read(source)\n"
        "sink.write(b'MLM1\\x10')\n"
        "sink.flush()\n"
        "os._exit(5)\n"
    )
    with TargetProcess(f"exec:{sys.executable} program.py", cwd=tmp_path) as target:
        answer = target.call("score", **score_arguments("float64"))
    assert answer.kind == "died"
    assert answer.text.startswith("ended with status 5 in the middle of a reply: ")
    assert answer.text.endswith("got 5 of 8 bytes")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ([], "a reply is []; expected an object"),
        ({}, "a reply with nothing; expected one of result, raised, malformed"),
        ({"result": {}, "raised": {}}, "a reply with result, raised"),
        ({"result": {"sum": 1.0}}, "score: log_likelihood is missing"),
        ({"result": {"nats": 1.0}}, "score: unknown field nats"),
        ({"raised": {"message": "?"}}, "raised.type is None; expected a text"),
        ({"raised": {"type": "E", "classes": "E"}}, "raised.classes is 'E'"),
        ({"malformed": "no", "mutated": 3}, "mutated is 3; expected a list of texts"),
    ],
)
def test_a_reply_out_of_form_is_malformed(reply: object, text: str) -> None:
    answer = read_answer("score", reply, 0.5, "output")
    assert (answer.kind, answer.seconds, answer.output) == ("malformed", 0.5, "output")
    assert text in answer.text


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"claims": []}, "it claims nothing"),
        ({"claims": ["score", "scores"]}, "it claims scores; expected some of mask"),
        ({"claims": ["head_loss"], "loss_reduction": "average"}, "loss_reduction is 'average'"),
        ({"claims": ["score"], "versions": "1"}, "versions is '1'; expected an object"),
    ],
)
def test_a_hello_out_of_form_is_refused(reply: object, text: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_hello("toy", reply)
    assert text in str(caught.value)


# ------------------------------------------------------------------- forms of a result


def test_every_argument_and_field_of_the_contract_is_in_the_table() -> None:
    text = (TARGETS.parent.parent / "docs" / "architecture.md").read_text()
    rows = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            method, _, rest = line[3:].partition("` |")
            rows[method] = rest
    assert rows.keys() == PORTS.keys()
    for method in ("mask", "score", "head", "sample", "sample_parallel", "random_words"):
        arguments, results = rows[method].split(" | ")[:2]
        assert all(name in arguments for name in PORTS[method].arguments)
        assert all(name in results for name in PORTS[method].results)


def test_a_tuple_may_leave_out_only_trailing_optional_fields() -> None:
    one = np.ones(1)
    assert normalise("score", (one, one, one))["grad_logits"] is None
    assert normalise("head_step", (one, one, one, one, None, one))["grad_bias"] is None
    for port, length in (("score", 2), ("score", 5), ("head_step", 5), ("mask", 2)):
        with pytest.raises(MalformedAnswer, match=f"a tuple of {length}; expected"):
            normalise(port, (one,) * length)


def test_a_required_field_may_not_be_none() -> None:
    with pytest.raises(MalformedAnswer, match="head: grad_weight is missing"):
        normalise("head", {"sum": 1.0, "count": 1, "grad_hidden": np.ones(1), "grad_weight": None})


@pytest.mark.parametrize("result", [None, [1.0, 2.0], "text", 3.0, np.ones(3), object()])
def test_a_result_without_fields_is_refused_where_several_are_needed(result: object) -> None:
    with pytest.raises(MalformedAnswer, match="head: answered"):
        normalise("head", result)


@pytest.mark.parametrize("result", [None, {"rate": object()}, [("rate", "1")]])
def test_a_policy_comes_back_as_plain_data(result: object) -> None:
    with pytest.raises(MalformedAnswer, match="policy: "):
        normalise("policy", result)


def test_raise_for_status_returns_nothing() -> None:
    assert normalise("raise_for_status", None) == {}
    with pytest.raises(MalformedAnswer, match="answered a bool; expected None"):
        normalise("raise_for_status", True)

"""Frames cross unchanged, or not at all."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlm_conformance import wire
from mlm_conformance.wire import (
    DTYPES,
    MAGIC,
    WireError,
    carried,
    encode,
    read_frame,
    write_frame,
)

from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord


def there_and_back(message: object) -> Any:
    """By a frame; what is carried without one arrives the same."""
    pipe = BytesIO()
    write_frame(pipe, message)
    pipe.seek(0)
    result = read_frame(pipe)
    assert pipe.read() == b""
    assert b"".join(encode(carried(message))) == b"".join(encode(result))
    return result


def frame(header: str | bytes, payload: bytes = b"") -> BytesIO:
    """A frame that `write_frame` might refuse to write."""
    text = header.encode() if isinstance(header, str) else header
    return BytesIO(MAGIC + struct.pack("<I", len(text)) + text + payload)


def same_array(one: Any, other: np.ndarray) -> bool:
    """Equal to the last bit."""
    assert isinstance(one, np.ndarray)
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3), (3, 1, 2, 2)])
def test_arrays_of_every_dtype_and_shape_come_back_bit_for_bit(
    name: str, shape: tuple[int, ...]
) -> None:
    bits = np.random.default_rng(7).integers(0, 256, (*shape, DTYPES[name].itemsize), np.uint8)
    if name == "bool":
        bits &= 1
    array = np.ascontiguousarray(bits).reshape(-1).view(DTYPES[name]).reshape(shape)
    result = there_and_back({"a": array})["a"]
    assert same_array(result, array)
    assert result.flags.writeable
    assert result.flags.c_contiguous


def test_the_list_of_dtypes_is_the_one_of_the_protocol_page() -> None:
    text = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    for name in DTYPES:
        assert f"`{name}`" in text


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0, 5e-324])
def test_special_numbers_in_arrays_keep_their_bits(value: float) -> None:
    array = np.array([value, 1.0])
    assert same_array(there_and_back([array])[0], array)


def test_several_arrays_keep_their_places() -> None:
    arrays = [np.full(n, n, dtype) for n, dtype in ((3, "i4"), (0, "f8"), (1, "?"), (5, "u2"))]
    result = there_and_back({"first": arrays[0], "rest": {"list": arrays[1:], "none": None}})
    assert same_array(result["first"], arrays[0])
    for one, other in zip(result["rest"]["list"], arrays[1:], strict=True):
        assert same_array(one, other)
    assert result["rest"]["none"] is None


@pytest.mark.parametrize("size", [100, 2**14, 2**18])
def test_layout_in_memory_does_not_matter(size: int) -> None:
    plain = np.arange(size, dtype=np.int32).reshape(-1, 4)
    for array in (np.asfortranarray(plain), plain[::-1][::-1], np.repeat(plain, 2, 1)[:, ::2]):
        assert same_array(there_and_back(array), plain)
    swapped = plain.astype(plain.dtype.newbyteorder())
    assert same_array(there_and_back(swapped), plain)


def test_a_numpy_scalar_arrives_as_an_array_of_no_dimension() -> None:
    for scalar in (np.float64(0.1), np.int8(-1), np.bool_(True), ml_dtypes.bfloat16(1.5)):
        result = there_and_back(scalar)
        assert result.shape == ()
        assert result == scalar


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(JSON)
def test_plain_data_comes_back_the_same(value: Any) -> None:
    assert repr(there_and_back(value)) == repr(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), -0.0, 2**64, -(2**200), "\udc80", True]
)
def test_numbers_and_texts_at_the_edges_come_back(value: object) -> None:
    result = there_and_back({"v": [value]})["v"][0]
    assert repr(result) == repr(value)
    assert type(result) is type(value)


def test_a_mapping_that_looks_like_a_marker_comes_back_as_a_mapping() -> None:
    for value in ({"$array": 0, "dtype": "int8", "shape": [1]}, {"$map": []}, {1: {None: "x"}}):
        assert there_and_back(value) == value


@pytest.mark.parametrize(
    "law",
    [
        Bernoulli("1/3"),
        FixedCount("3/20", 1, 20, "all", "half_even"),
        WholeWord("3/20"),
        Span("1/50", ("1/2", "1/4", "1/4")),
    ],
)
def test_policies_come_back_equal(law: Any) -> None:
    policy = MaskingPolicy(law, Corruption("4/5", "1/10", "1/10"), 100, 4, 0, (0, 4), (7, 8, 9))
    assert there_and_back({"policy": policy}) == {"policy": policy}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (object(), "a builtins.object cannot be carried"),
        ({1, 2}, "a builtins.set cannot be carried"),
        (b"bytes", "a builtins.bytes cannot be carried"),
        (1j, "a builtins.complex cannot be carried"),
        (np.array(["text"]), "dtype str128 cannot be carried"),
        (np.array([object()]), "dtype object cannot be carried"),
        (np.zeros(1, "f8,i4"), "cannot be carried"),
        (np.zeros(1, "M8[s]"), "cannot be carried"),
        (np.zeros(1, ml_dtypes.float8_e4m3fn), "dtype float8_e4m3fn cannot be carried"),
    ],
)
def test_what_cannot_be_carried_is_refused_before_a_byte_is_written(
    value: object, what: str
) -> None:
    pipe = BytesIO()
    with pytest.raises(WireError) as caught:
        write_frame(pipe, {"ok": np.ones(3), "bad": value})
    assert what in str(caught.value)
    assert pipe.getvalue() == b""
    with pytest.raises(WireError) as same:
        carried({"ok": np.ones(3), "bad": value})
    assert str(same.value) == str(caught.value)


def test_what_is_carried_in_one_process_is_a_copy_of_plain_types() -> None:
    class Text(str):
        """What JSON would make a text of."""

    class Number(float):
        """And a number."""

    given = {Text("key"): [Text("a"), np.str_("b"), Number(0.5)], "array": np.arange(3)[::-1]}
    found = carried(given)
    assert found.keys() == {"key", "array"}
    assert {type(item) for item in (*found, *found["key"])} == {str, float}
    assert not np.shares_memory(found["array"], given["array"])
    assert found["array"].flags.writeable
    assert found["array"].flags.c_contiguous


def test_a_bool_that_is_carried_in_one_process_is_zero_or_one_too() -> None:
    for bits in (np.uint8([0, 1, 2]), np.array(2, np.uint8)):
        with pytest.raises(WireError, match="holds the byte 2; expected 0 or 1"):
            carried([bits.view(np.bool_)])


# ------------------------------------------------------------------- broken frames


def test_the_end_between_two_frames_is_the_end() -> None:
    with pytest.raises(EOFError):
        read_frame(BytesIO())


def test_a_frame_cut_at_any_byte_is_refused() -> None:
    pipe = BytesIO()
    write_frame(pipe, {"a": np.arange(3, dtype=np.int16), "b": np.array(True), "c": [1, "é"]})
    whole = pipe.getvalue()
    for length in range(1, len(whole)):
        with pytest.raises(WireError, match=r"a frame ends inside .*: got \d+ of \d+ bytes"):
            read_frame(BytesIO(whole[:length]))
    assert read_frame(BytesIO(whole))["c"] == [1, "é"]


def test_frames_arrive_in_pieces_of_any_size() -> None:
    class Dribble(BytesIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:1])

        def write(self, buffer: Any) -> int:
            return super().write(memoryview(buffer)[:3])

    pipe = Dribble()
    write_frame(pipe, {"a": np.arange(70_000, dtype=np.uint8), "b": "text"})
    pipe.seek(0)
    result = read_frame(pipe)
    assert same_array(result["a"], np.arange(70_000, dtype=np.uint8))
    assert result["b"] == "text"


@pytest.mark.parametrize("text", [b"Hello, world", b"{", b"MLM", b"MLM2\0\0\0\0", b"\0" * 20])
def test_foreign_bytes_are_shown(text: bytes) -> None:
    with pytest.raises(WireError) as caught:
        read_frame(BytesIO(text))
    shown = "got 3 of 8 bytes" if text == b"MLM" else repr(text[:8])
    assert shown in str(caught.value)


ARRAY = '{"$array":0,"dtype":"int16","shape":[2]}'


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, "not JSON"),
        ("NaN", "the number NaN"),
        ('{"a":-Infinity}', "the number -Infinity"),
        ('{"a":1,"a":2}', "a key twice"),
        ('{"$float":"2"}', "has no meaning"),
        ('{"$float":["nan"]}', "has no meaning"),
        ('{"$pickle":"x"}', "an unknown object"),
        ('{"$float":"nan","x":1}', "an unknown object"),
        ('{"$policy":{}}', "has no meaning"),
        ('{"$policy":' + ARRAY + "}", "has no meaning"),
        ('{"$map":{"a":1}}', "has no meaning"),
        ('{"$map":[["a"]]}', "has no meaning"),
        ('{"$map":[[[],1]]}', "has no meaning"),
        (f"[{ARRAY},{ARRAY}]", "an array numbered 0"),
        (ARRAY.replace('":0', '":1'), "arrays numbered [1]"),
        (ARRAY.replace('":0', '":-1'), "an array numbered -1"),
        (ARRAY.replace('":0', '":true'), "an array numbered True"),
        (ARRAY.replace("int16", "object"), "dtype 'object'; expected one of"),
        (ARRAY.replace('"int16"', "[]"), "dtype []; expected one of"),
        (ARRAY.replace("[2]", "[-2]"), "shape [-2]"),
        (ARRAY.replace("[2]", "[2.0]"), "shape [2.0]"),
        (ARRAY.replace("[2]", "2"), "shape 2"),
        (ARRAY.replace("[2]", str([1] * 33)), "expected at most 32 sizes"),
        (ARRAY.replace("[2]", "[9999999999]"), "arrays of 19999999998 bytes; at most"),
        (ARRAY.replace("[2]", f"[0,{2**62},{2**62}]"), "an array of shape"),
    ],
)
def test_a_header_without_meaning_is_refused(header: str | bytes, what: str) -> None:
    with pytest.raises(WireError) as caught:
        read_frame(frame(header))
    assert what in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_bool_is_zero_or_one() -> None:
    header = '{"$array":0,"dtype":"bool","shape":[3]}'
    assert read_frame(frame(header, b"\0\1\1")).tolist() == [False, True, True]
    with pytest.raises(WireError, match="holds the byte 2; expected 0 or 1"):
        read_frame(frame(header, b"\0\1\2"))


def test_arrays_are_read_by_their_number_and_not_by_their_place() -> None:
    two = '{"$array":0,"dtype":"uint8","shape":[]}'
    one = two.replace("0", "1")
    result = read_frame(frame(f'{{"one":{one},"two":{two}}}', b"\x05\x07"))
    assert (result["one"], result["two"]) == (7, 5)


def test_limits_hold_for_the_writer_and_for_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    text, array = "x" * 100, np.zeros(100, np.uint8)
    frames = {what: b"".join(encode(value)) for what, value in (("text", text), ("array", array))}
    monkeypatch.setattr(wire, "MAX_HEADER", 99)
    monkeypatch.setattr(wire, "MAX_PAYLOAD", 99)
    for value, expected in ((text, "a header of 102 bytes"), (array, "arrays of 100 bytes")):
        with pytest.raises(WireError, match=expected):
            encode(value)
    for what, expected in (("text", "a header of 102 bytes"), ("array", "arrays of 100 bytes")):
        with pytest.raises(WireError, match=expected):
            read_frame(BytesIO(frames[what]))


def test_an_endless_claim_reserves_no_memory() -> None:
    start = BytesIO(MAGIC + struct.pack("<I", 2**32 - 1) + b"{}")
    with pytest.raises(WireError, match="a header of 4294967295 bytes; at most 16777216"):
        read_frame(start)


def test_the_frame_on_the_protocol_page_is_what_is_written() -> None:
    text = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    block = text.split("```hexdump\n")[1].split("```")[0]
    shown = bytes.fromhex("".join(line[10:59] for line in block.splitlines()))
    message = {
        "result": {"words": np.array([[0x6B200159, 0x99BA4EFE]], np.uint32)},
        "seconds": 0.25,
    }
    assert b"".join(encode(message)) == shown

"""Frames: one line of ASCII JSON, and raw bytes behind it on a byte-clean carrier."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.wire.frames import Decoder, ProtocolError, encode, encode_data

Frames = list[tuple[dict[str, Any], bytes]]

_PLAIN = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.none(), max_size=3)


def decode(*chunks: bytes, max_line: int = 1000, max_payload: int = 1000) -> Frames:
    decoder = Decoder(max_line=max_line, max_payload=max_payload)
    return [(header, bytes(payload)) for chunk in chunks for header, payload in decoder.feed(chunk)]


def test_a_frame_is_one_line_of_ascii_whatever_it_says() -> None:
    frame = encode({"t": "call", "m": "añb\n☃"})
    assert frame.isascii()
    assert frame.count(b"\n") == 1
    assert frame.endswith(b"\n")


def test_bytes_follow_their_line_raw_on_a_byte_clean_carrier() -> None:
    assert encode_data({"t": "d", "s": "x", "o": 5}, b"\x00\n\xff", binary=True) == (
        b'{"t":"d","s":"x","o":5,"n":3}\n\x00\n\xff'
    )


def test_bytes_are_base64_in_their_line_on_a_text_carrier() -> None:
    assert encode_data({"t": "d", "s": "x", "o": 5}, b"\x00\n\xff", binary=False) == (
        b'{"t":"d","s":"x","o":5,"b":"AAr/"}\n'
    )


def test_an_empty_line_is_padding() -> None:
    assert decode(b'\n\n{"t":"ping"}\n\n') == [({"t": "ping"}, b"")]


@given(data=st.data())
def test_frames_arrive_whole_and_in_order_however_they_were_split(data: st.DataObject) -> None:
    plain = data.draw(st.lists(_PLAIN, max_size=4))
    payload = data.draw(st.binary(max_size=60))
    binary = data.draw(st.booleans())
    frames = [encode({"t": "ans", "v": value}) for value in plain]
    frames.insert(len(frames) // 2, encode_data({"t": "d", "s": "x", "o": 7}, payload, binary=binary))
    sent = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    chunks = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    found = decode(*chunks, max_line=10_000)

    assert [header["v"] for header, _ in found if header["t"] == "ans"] == plain
    # A payload comes in as many pieces as it was split into, each with its own offset.
    pieces = [(header["o"], piece) for header, piece in found if header["t"] == "d"]
    assert b"".join(piece for _, piece in pieces) == payload
    assert [offset for offset, _ in pieces] == [
        7 + sum(len(piece) for _, piece in pieces[:index]) for index in range(len(pieces))
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{",
        b'{"t":',
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b'{"t":"\xc3\xa9"}',  # UTF-8, which is not ASCII
        b'{\x00"\x00t\x00"\x00}\x00',  # UTF-16, which a JSON parser may detect
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_ascii_json_object_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(line + b"\n")


def test_json_that_is_nested_too_deeply_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        decode(b"[" * 200_000 + b"\n", max_line=1_000_000)


@pytest.mark.parametrize("chunk", [1, 7, 100, 10_000])
def test_a_line_too_long_is_a_protocol_error_however_it_was_split(chunk: int) -> None:
    line = encode({"t": "x", "filler": "y" * 2000})
    chunks = [line[start : start + chunk] for start in range(0, len(line), chunk)]
    with pytest.raises(ProtocolError):
        decode(*chunks, max_line=len(line) - 2)
    assert len(decode(*chunks, max_line=len(line) - 1)) == 1


def test_a_line_that_never_ends_is_not_kept_beyond_its_bound() -> None:
    decoder = Decoder(max_line=1000, max_payload=1000)
    with pytest.raises(ProtocolError):
        for _ in range(1000):
            assert not list(decoder.feed(b"x" * 100))


@pytest.mark.parametrize("size", ["1001", "-1", "1.0", "true", '"3"', "null", "[]", "1e400", "NaN"])
def test_a_payload_whose_size_is_out_of_bounds_is_a_protocol_error(size: str) -> None:
    with pytest.raises(ProtocolError):
        decode(f'{{"t":"d","s":"x","o":0,"n":{size}}}\n'.encode())


@pytest.mark.parametrize("text", ['"A"', '"====="', '"AA=A"', '"é"', '"AA A"', "7", "null", "[]", "{}"])
def test_a_payload_that_is_not_base64_is_a_protocol_error(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode(f'{{"t":"d","s":"x","o":0,"b":{text}}}\n'.encode("ascii", "backslashreplace"))


def test_a_base64_payload_beyond_the_bound_is_a_protocol_error() -> None:
    frame = encode_data({"t": "d", "s": "x", "o": 0}, bytes(1001), binary=False)
    with pytest.raises(ProtocolError):
        decode(frame, max_line=10_000)


@pytest.mark.parametrize(
    "line", [b'{"t":"d","s":"x","o":0}', b'{"t":"call","o":0,"n":1}', b'{"t":"ping","b":""}']
)
def test_data_frames_have_a_payload_and_others_have_none(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(line + b"\n")


@pytest.mark.parametrize("offset", ["", ',"o":null', ',"o":1.5', ',"o":"0"', ',"o":true'])
def test_a_raw_payload_without_an_offset_is_a_protocol_error(offset: str) -> None:
    with pytest.raises(ProtocolError):
        decode(f'{{"t":"d","s":"x"{offset},"n":1}}\n'.encode() + b"x")

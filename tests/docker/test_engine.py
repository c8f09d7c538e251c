"""The engine of the tests, and what speaks to it."""

from __future__ import annotations

import pytest
from docker.docker_engine import DockerEngine
from hypothesis import given
from hypothesis import strategies as st

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.docker.address import find_address
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.frames import STDERR, STDOUT, Demultiplexer


async def test_an_engine_says_what_it_is_and_what_it_does_not_know(docker_engine: DockerEngine) -> None:
    engine = Engine(find_address(docker_engine.host))
    try:
        assert (await engine.facts())["OSType"] == "linux"
        with pytest.raises(EngineError, match=r"(?i)no such container") as caught:
            await engine.ask("GET", "/containers/no-such-thing/json")
        assert caught.value.status == 404
        with pytest.raises(EngineError, match=r"(?i)no such exec") as caught:
            await engine.upgrade("/exec/nothing/start", {"Detach": False, "Tty": False})
        assert caught.value.status == 404
    finally:
        await engine.aclose()


async def test_where_no_engine_answers_the_error_says_what_to_do() -> None:
    engine = Engine(find_address("unix:///no/such/engine.sock"))
    try:
        with pytest.raises(EngineError, match="DOCKER_HOST"):
            await engine.facts()
    finally:
        await engine.aclose()


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("tcp://127.0.0.1:2376", "tcp://127.0.0.1:2376"),
        ("tcp://localhost", "tcp://127.0.0.1:2375"),
    ],
)
def test_addresses_are_taken_as_docker_host_has_them(host: str, told: str) -> None:
    assert str(find_address(host)) == told


@pytest.mark.parametrize("host", ["ssh://somewhere", "unix://relative", "tcp://", "tcp://127.0.0.1:x"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="DOCKER_HOST"):
        find_address(host)


def test_another_machine_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="another machine"):
        find_address("tcp://192.0.2.1:2375")


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=50)), max_size=10),
    st.lists(st.integers(1, 30), max_size=60),
)
def test_frames_come_apart_the_same_however_they_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(bytes((kind, 0, 0, 0)) + len(body).to_bytes(4, "big") + body for kind, body in frames)
    taker = Demultiplexer()
    found: list[tuple[int, bytes]] = []
    for size in [*cuts, len(data)]:
        found += taker.feed(data[:size])
        data = data[size:]
    for wanted in (STDOUT, STDERR):
        sent = b"".join(body for kind, body in frames if kind == wanted)
        assert b"".join(body for kind, body in found if kind == wanted) == sent


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="frames"):
        Demultiplexer().feed(b"HTTP/1.1 200 OK\r\n")

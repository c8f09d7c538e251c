"""What is done inside of a sandbox through the Worker: programs, files, requests to the guest."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncGenerator

import anyio
import pytest
from cloudflare_worker.calls import KEY, MARKER, ROOT, Calls, code_of
from cloudflare_worker.scripted_engine import Program, ScriptedEngine

from agenthost.testing.loopback import Exchange

WITHIN = 30.0  # seconds for what comes at once on a machine that is not busy
GUEST = f"{ROOT}/sandboxes/abc/guest"


# ---- programs


async def test_a_program_gets_its_arguments_and_its_environment_and_its_output_comes_back(
    worker: Calls, engine: ScriptedEngine
) -> None:
    given: list[object] = []

    async def program(it: Program) -> int:
        given.extend([it.argv, it.env])
        await it.say("stdout", b"one")
        await it.say("stderr", b"two\n")
        await it.say("stdout", "three ü\n\x1e\x1efour".encode())
        return 7

    engine.program = program
    await worker.made("abc")
    answer = await worker.run("abc", ["x", "", "a 'b' $c \\ \n ü"], env={"A": "ü\n'"})
    assert given == [["x", "", "a 'b' $c \\ \n ü"], {"A": "ü\n'"}]
    assert answer.printed("stdout") == "onethree ü\n\x1e\x1efour".encode()
    assert answer.printed("stderr") == b"two\n"
    assert answer.last == {"exit": 7}


async def test_output_arrives_while_the_program_runs(worker: Calls, engine: ScriptedEngine) -> None:
    seen = anyio.Event()

    async def program(it: Program) -> int:
        await it.say("stdout", b"a line\n")
        await seen.wait()
        return 0

    engine.program = program
    await worker.made("abc")
    with anyio.fail_after(WITHIN):
        async with worker.running_program("abc", ["x"]) as answer:
            lines: list[dict[str, object]] = []
            async for line in answer.aiter_lines():
                lines.append(json.loads(line))
                seen.set()
    assert lines == [{"stdout": b64encode(b"a line\n").decode()}, {"exit": 0}]


async def test_records_are_taken_out_however_they_are_cut(worker: Calls, engine: ScriptedEngine) -> None:
    async def program(it: Program) -> int:
        await it.say("stdout", b"first\x1e ok\nlast\x1e")
        return 3

    engine.says_bytes, engine.program = True, program
    await worker.made("abc")
    answer = await worker.run("abc", ["x"])
    assert answer.printed("stdout") == b"first\x1e ok\nlast\x1e"
    assert answer.last == {"exit": 3}


async def test_an_exit_that_is_only_reported_is_no_end(worker: Calls, engine: ScriptedEngine) -> None:
    async def program(it: Program) -> int:
        await it.say("stdout", b"still at it")
        return -1  # reports 0, without the record that the shell prints behind the program

    engine.program = program
    await worker.made("abc")
    answer = await worker.run("abc", ["x"])
    assert answer.printed("stdout") == b"still at it"
    assert answer.code == "interrupted"
    assert "code 0" in answer.last["error"]["message"]


async def test_a_program_whose_connection_is_lost_has_no_end(worker: Calls, engine: ScriptedEngine) -> None:
    async def program(it: Program) -> None:
        await it.say("stdout", b"before")

    engine.program = program
    await worker.made("abc")
    answer = await worker.run("abc", ["x"])
    assert answer.printed("stdout") == b"before"
    assert answer.code == "interrupted"


async def test_a_program_that_runs_for_too_long_has_timed_out(worker: Calls, engine: ScriptedEngine) -> None:
    async def program(_: Program) -> int:
        return -1

    engine.program = program
    await worker.made("abc")
    assert (await worker.run("abc", ["x"], timeout=0.000_001)).code == "timeout"


@pytest.mark.parametrize(
    ("status", "code", "answered"),
    [
        (503, "capacity_exceeded", (503, "capacity_exceeded")),
        (503, "container_unavailable", (503, "container_unavailable")),
        (409, "operation_interrupted", (409, "operation_interrupted")),
        (500, "other", (502, "container_error")),
    ],
)
async def test_a_failure_of_the_container_says_whether_something_was_done(
    worker: Calls, engine: ScriptedEngine, status: int, code: str, answered: tuple[int, str]
) -> None:
    await worker.made("abc")
    engine.refused["exec"] = (status, code)
    answer = await worker.run("abc", ["x"])
    assert (answer.status, answer.code) == answered
    assert await worker.listed() == {"abc": "running"}


# ---- files


async def test_a_file_arrives_byte_for_byte_under_any_name(worker: Calls, engine: ScriptedEngine) -> None:
    await worker.made("abc")
    data = bytes(range(256)) * 4096
    for path in ("/workspace/a", "/workspace/a b/%2B+&?#=ü'"):
        assert (await worker.write("abc", path, data)).status_code == 204
        assert engine.containers["abc"].files == {path: data}
        engine.containers["abc"].files.clear()
    assert (await worker.write("abc", "/workspace/empty", b"")).status_code == 204
    assert engine.containers["abc"].files == {"/workspace/empty": b""}


async def test_a_file_that_is_too_large_does_not_reach_the_container(
    worker: Calls, engine: ScriptedEngine
) -> None:
    await worker.made("abc")
    most = 8 * 1024 * 1024
    assert (await worker.write("abc", "/workspace/a", b"x" * most)).status_code == 204
    engine.calls.clear()

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(9):
            yield b"x" * 1024 * 1024

    for content in (b"x" * (most + 1), pieces()):
        headers = {"x-agenthost-marker": MARKER}
        path = f"{ROOT}/sandboxes/abc/files?path=/workspace/b"
        answer = await worker.http.put(path, content=content, headers=headers)
        assert (answer.status_code, code_of(answer)) == (413, "payload_too_large")
    assert engine.calls == []


# ---- the guest


async def test_a_request_reaches_the_guest_while_it_is_sent(worker: Calls, engine: ScriptedEngine) -> None:
    heard: list[bytes] = []
    arrived = [anyio.Event() for _ in range(3)]

    async def guest(exchange: Exchange, target: str) -> None:
        async for piece in exchange.pieces():
            heard.append(piece)
            arrived[len(heard) - 1].set()
        await exchange.reply(200, target.encode())

    async def body() -> AsyncGenerator[bytes]:
        for number, event in enumerate(arrived):
            yield str(number).encode()
            await event.wait()  # the next one is sent when this one is there

    engine.guest = guest
    await worker.made("abc")
    with anyio.fail_after(WITHIN):
        answer = await worker.http.post(f"{GUEST}/v1/up", content=body())
    assert (heard, answer.text) == ([b"0", b"1", b"2"], "/v1/up")


async def test_an_answer_of_the_guest_arrives_while_it_is_sent(worker: Calls, engine: ScriptedEngine) -> None:
    arrived = [anyio.Event() for _ in range(3)]

    async def guest(exchange: Exchange, target: str) -> None:
        del target
        await exchange.start(200, {"content-type": "application/octet-stream"})
        for number, event in enumerate(arrived):
            await exchange.write(str(number).encode())
            await event.wait()  # the next one is sent when this one is there
        await exchange.finish()

    engine.guest = guest
    await worker.made("abc")
    with anyio.fail_after(WITHIN):
        async with worker.http.stream("GET", f"{GUEST}/v1/down") as answer:
            pieces = [b""]
            async for piece in answer.aiter_raw():
                arrived[len(pieces) - 1].set()
                pieces.append(piece)
    assert pieces == [b"", b"0", b"1", b"2"]


async def test_the_guest_gets_the_request_without_the_key_and_its_answer_comes_back_as_it_is(
    worker: Calls, engine: ScriptedEngine
) -> None:
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def guest(exchange: Exchange, target: str) -> None:
        body = b"".join([piece async for piece in exchange.pieces()])
        seen.append((exchange.request.method, target, dict(exchange.request.headers), body))
        await exchange.reply(418, b"\x00\xff", {"location": "http://127.0.0.1:1/x", "x-answer": "1"})

    engine.guest = guest
    await worker.made("abc")
    headers = {
        "x-agenthost-token": "t",
        "cookie": "c",
        "x-real-ip": "192.0.2.1",
        "x-forwarded-for": "192.0.2.1",
    }
    answer = await worker.http.patch(f"{GUEST}/a%2Fb//c?d=%20&e", content=b"\xff\x00", headers=headers)
    assert (answer.status_code, answer.content) == (418, b"\x00\xff")
    assert (answer.headers["x-answer"], answer.headers["location"]) == ("1", "http://127.0.0.1:1/x")
    ((method, target, got, body),) = seen
    assert (method, target, body) == ("PATCH", "/a%2Fb//c?d=%20&e", b"\xff\x00")
    assert got["x-agenthost-token"] == "t"
    assert not {"cookie", "authorization", "x-real-ip", "x-forwarded-for"} & set(got)
    assert KEY not in str(seen)


async def test_redirects_of_the_guest_are_not_followed(worker: Calls, engine: ScriptedEngine) -> None:
    targets: list[str] = []

    async def guest(exchange: Exchange, target: str) -> None:
        targets.append(target)
        assert [piece async for piece in exchange.pieces()] == []
        await exchange.reply(302, b"", {"location": "/elsewhere"})

    engine.guest = guest
    await worker.made("abc")
    assert (await worker.http.get(f"{GUEST}/here")).status_code == 302
    assert targets == ["/here"]


async def test_a_guest_that_does_not_listen_does_not_end_its_sandbox(worker: Calls) -> None:
    await worker.made("abc")
    answer = await worker.http.get(f"{GUEST}/healthz")
    assert (answer.status_code, code_of(answer)) == (502, "not_listening")
    assert await worker.listed() == {"abc": "running"}


async def test_a_guest_that_writes_notices_that_the_caller_has_gone_away(
    worker: Calls, engine: ScriptedEngine
) -> None:
    gone = anyio.Event()

    async def guest(exchange: Exchange, target: str) -> None:
        del target
        await exchange.start(200, {})
        try:
            while True:  # workerd looks for the caller only when there is something to pass on
                await exchange.write(b"x" * 1024)
        finally:
            gone.set()

    engine.guest = guest
    await worker.made("abc")
    head = f"GET {GUEST}/v1/down HTTP/1.1\r\nhost: worker\r\nauthorization: Bearer {KEY}\r\n\r\n"
    with anyio.fail_after(WITHIN):
        async with await anyio.connect_tcp("127.0.0.1", worker.http.base_url.port or 80) as caller:
            await caller.send(head.encode())
            assert (await caller.receive()).startswith(b"HTTP/1.1 200 ")
        await gone.wait()

"""The engine of the emulator is as unkind as Cloudflare's containers are."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest
from support.waiting import until

from agenthost.http import HttpClient
from agenthost.testing.emulators.cloudflare import Emulator, Fault, emulator

LIMIT = 60  # seconds for what has to happen; nothing waits that long


class Engine:
    """Calls of a Durable Object to its container."""

    def __init__(self, client: httpx.AsyncClient, owner: str) -> None:
        self._client, self.owner = client, owner

    async def ask(self, method: str, what: str, **given: Any) -> httpx.Response:
        return await self._client.request(method, f"/containers/{self.owner}{what}", **given)

    async def run(self, *argv: str, timeout: float = 30, **env: str) -> list[tuple[str, Any]]:
        """Run a program and return its events."""
        body = {"argv": argv, "env": env, "timeout": timeout}
        answer = await self.ask("POST", "/exec", json=body)
        assert answer.status_code == 200, answer.text
        blocks = [block.split("\ndata: ") for block in answer.text.strip().split("\n\n")]
        return [_decoded(kind.removeprefix("event: "), data) for kind, data in blocks]


def _decoded(kind: str, data: str) -> tuple[str, Any]:
    return kind, b64decode(data) if kind in ("stdout", "stderr") else json.loads(data)


def printed(events: list[tuple[str, Any]], kind: str = "stdout") -> bytes:
    return b"".join(data for one, data in events if one == kind)


@pytest.fixture
async def client(cloudflare: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cloudflare.engine_url, timeout=LIMIT, trust_env=False) as client:
        yield client


@pytest.fixture
async def engine(client: httpx.AsyncClient, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine = Engine(client, request.node.name.partition("[")[0])
    yield engine
    await engine.ask("DELETE", "")


@pytest.mark.full
async def test_each_of_several_first_calls_starts_a_container_and_one_that_is_friendly_starts_one(
    cloudflare: Emulator, engine: Engine
) -> None:
    before = cloudflare.started
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(engine.run, "true")
    assert cloudflare.started - before == 4
    async with emulator(friendly=True) as friendly:
        base = friendly.engine_url
        async with (
            httpx.AsyncClient(base_url=base, timeout=LIMIT, trust_env=False) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(4):
                tasks.start_soon(Engine(client, "one").run, "true")
        assert friendly.started == 1


async def test_a_call_to_a_container_that_is_gone_starts_an_empty_one_without_a_word(engine: Engine) -> None:
    await engine.run("sh", "-c", "echo mine > /workspace/file")
    assert printed(await engine.run("cat", "/workspace/file")) == b"mine\n"
    await engine.ask("DELETE", "")
    assert (await engine.ask("GET", "/running")).json() == {"running": False}
    assert (await engine.run("ls", "/workspace"))[-1] == ("exit", {"exit_code": 0})
    assert printed(await engine.run("ls", "/workspace")) == b""
    assert (await engine.ask("GET", "/running")).json() == {"running": True}


async def test_output_is_text_in_pieces_and_input_is_empty(engine: Engine) -> None:
    events = await engine.run(
        "sh", "-c", 'cat; printf "\\377a\\303"; sleep 0.1; printf "\\251"; echo $OF', OF="x"
    )
    assert printed(events) == "\ufffdaéx\n".encode()
    assert len([kind for kind, _ in events if kind == "stdout"]) > 1
    assert events[-1] == ("exit", {"exit_code": 0})


async def test_a_missing_program_a_late_one_and_one_with_too_long_an_argument(engine: Engine) -> None:
    missing = await engine.run("no-such-program")
    assert missing[-1] == ("exit", {"exit_code": 127})
    assert b"no-such-program: command not found" in printed(missing, "stderr")
    late = await engine.run("sleep", "100", timeout=0.2)
    assert late[-1] == ("exit", {"exit_code": 124})
    assert b"timed out after 200ms" in printed(late, "stderr")
    ((kind, error),) = await engine.run("echo", "x" * 140_000)
    assert (kind, error["code"]) == ("error", "exec_transport_error")


async def until_it_has_gone_on(engine: Engine) -> None:
    """Return when a program that waits for a sign has gone on with it."""
    assert printed(await engine.run("cat", "/tmp/done")) == b""
    assert (await engine.ask("PUT", "/file?path=/tmp/sign", content=b"")).status_code == 204

    async def look() -> bytes:
        return printed(await engine.run("cat", "/tmp/done"))

    with anyio.fail_after(LIMIT):
        await until(look, lambda found: found == b"done\n")


WAITING = "echo begun; until [ -e /tmp/sign ]; do sleep 0.05; done; echo done >/tmp/done; exit 3"


async def test_a_program_runs_on_when_nothing_receives_its_output(
    cloudflare: Emulator, engine: Engine
) -> None:
    body = json.dumps({"argv": ["sh", "-c", WAITING], "env": {}, "timeout": 30}).encode()
    url = f"{cloudflare.engine_url}/containers/{engine.owner}/exec"
    async with HttpClient(direct=True) as client, client.stream("POST", url, [], body) as answer:
        assert b"stdout" in await anext(answer.chunks)
    await until_it_has_gone_on(engine)


async def test_an_exit_code_is_reported_while_the_program_runs_on(
    cloudflare: Emulator, engine: Engine
) -> None:
    await engine.run("true")
    cloudflare.fabricate_exit("fabricated")
    assert (await engine.run("sh", "-c", WAITING, "fabricated"))[-1] == ("exit", {"exit_code": 0})
    await until_it_has_gone_on(engine)


async def test_files_are_exact_up_to_the_limit_of_the_transport(engine: Engine) -> None:
    path = f"/file?path={quote('/workspace/a b%+')}"
    assert (await engine.ask("PUT", path, content=bytes(range(256)))).status_code == 204
    assert printed(await engine.run("sh", "-c", "md5sum </workspace/a\\ b%+")).startswith(b"e2c865db4162bed9")
    assert (await engine.ask("PUT", path, content=b"x" * (12 * 1024 * 1024 + 1))).status_code == 502


async def test_a_port_is_reached_while_something_listens_and_starts_no_container(
    cloudflare: Emulator, engine: Engine
) -> None:
    for starts in (0, 1):  # without a container, and with one
        nothing = await engine.ask("GET", "/port/21999/a?b=c")
        assert (nothing.status_code, nothing.headers["x-engine-error"]) == (502, "not_listening")
        assert len(cloudflare.running()) == starts
        await engine.run("true")
    (box,) = cloudflare.boxes.running()
    assert box.machine is not None
    line = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=21999, bind='127.0.0.1')"
    await box.machine.start(["python3", "-c", line], cwd="/workspace")

    async def look() -> int:
        return (await engine.ask("GET", "/port/21999/nothing?b=c")).status_code

    with anyio.fail_after(LIMIT):
        await until(look, lambda found: found == 404)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault("container exec", 503, message="container_unavailable"), 503, "container_unavailable"),
        (Fault("container exec", 409, message="operation_interrupted"), 409, "operation_interrupted"),
    ],
)
async def test_a_rollout_shows_in_errors_of_its_own(
    cloudflare: Emulator, engine: Engine, fault: Fault, status: int, code: str
) -> None:
    cloudflare.faults.add(fault)
    answer = await engine.ask("POST", "/exec", json={"argv": ["true"], "env": {}, "timeout": 1})
    found: Mapping[str, Any] = answer.json()
    assert (answer.status_code, found["code"]) == (status, code)


async def test_what_it_does_not_know_is_refused_and_kept() -> None:
    async with emulator() as running:
        async with httpx.AsyncClient(timeout=LIMIT, trust_env=False) as client:
            unknown = await client.post(f"{running.engine_url}/containers/one/backup")
            bridge = await client.post(f"{running.options['worker_url']}/v1/sandbox")
        assert (unknown.status_code, bridge.status_code) == (501, 501)
        assert running.unknown == ["POST /containers/one/backup", "POST /v1/sandbox"]

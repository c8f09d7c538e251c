"""A request that E2B refuses is refused by the emulator, which goes on serving all its sandboxes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import e2b as vendor
import httpx
import pytest

from agenthost.testing.emulators.e2b import Emulator
from agenthost.testing.loopback import Exchange, LoopbackServer


@pytest.fixture(scope="module")
async def sandbox(e2b: Emulator) -> AsyncIterator[vendor.AsyncSandbox]:
    """Give one sandbox, which lives through every bad request of this file."""
    made = await vendor.AsyncSandbox.create(timeout=600, **e2b.options)
    yield made
    assert (await made.commands.run("echo still here")).stdout == "still here\n"
    await made.kill()


async def ask(e2b: Emulator, method: str, path: str, body: object = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"x-api-key": e2b.options["api_key"], "content-type": "application/json"}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, e2b.options["api_url"] + path, content=content, headers=headers)


async def ask_inside(
    e2b: Emulator, sandbox: vendor.AsyncSandbox, method: str, path: str, body: bytes = b""
) -> httpx.Response:
    told = json.loads((await ask(e2b, "GET", f"/sandboxes/{sandbox.sandbox_id}")).content)
    headers = {"e2b-sandbox-id": sandbox.sandbox_id, "x-access-token": told["envdAccessToken"]}
    headers["content-type"] = "application/json"
    async with httpx.AsyncClient(trust_env=False) as client:
        url = e2b.options["sandbox_url"] + path
        return await client.request(method, url, content=body, headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "/v2/sandboxes", b"{", id="broken JSON"),
        pytest.param("POST", "/v2/sandboxes", [], id="a list"),
        pytest.param("POST", "/v2/sandboxes", {}, id="no template"),
        pytest.param("POST", "/v2/sandboxes", {"templateID": 3}, id="a template that is a number"),
        pytest.param("POST", "/v2/sandboxes", {"templateID": "base", "timeout": None}, id="no timeout"),
        pytest.param("POST", "/v2/sandboxes", {"templateID": "base", "timeout": "1"}, id="timeout is text"),
        pytest.param("POST", "/v2/sandboxes", {"templateID": "base", "metadata": {"a": 1}}, id="metadata"),
        pytest.param("POST", "/v2/sandboxes", {"templateID": "base", "network": "open"}, id="network"),
        pytest.param("GET", "/v2/sandboxes?limit=x", None, id="limit"),
        pytest.param("GET", "/v2/sandboxes?nextToken=-1", None, id="token"),
        pytest.param("POST", "/v3/templates", b"null", id="null"),
        pytest.param("POST", "/templates/tags", {"target": "base", "tags": 1}, id="tags"),
        pytest.param("POST", "/templates/tags", {"tags": []}, id="no target"),
    ],
)
async def test_the_control_plane_answers_400_to_what_it_cannot_read(
    e2b: Emulator, sandbox: vendor.AsyncSandbox, method: str, path: str, body: object
) -> None:
    del sandbox  # which must outlive this
    answer = await ask(e2b, method, path, body)
    assert answer.status_code == 400
    assert json.loads(answer.content)["code"] == 400


async def test_a_build_that_does_not_exist_is_404(e2b: Emulator) -> None:
    assert (await ask(e2b, "POST", "/v2/templates/base/builds/none", {})).status_code == 404
    assert (await ask(e2b, "GET", "/templates/base/builds/none/status")).status_code == 404


async def test_a_timeout_of_a_sandbox_must_be_a_number(e2b: Emulator, sandbox: vendor.AsyncSandbox) -> None:
    path = f"/sandboxes/{sandbox.sandbox_id}/timeout"
    assert (await ask(e2b, "POST", path, {})).status_code == 400
    assert (await ask(e2b, "POST", path, {"timeout": True})).status_code == 400


async def test_a_file_without_a_path_is_400(e2b: Emulator, sandbox: vendor.AsyncSandbox) -> None:
    assert (await ask_inside(e2b, sandbox, "GET", "/files")).status_code == 400
    assert (await ask_inside(e2b, sandbox, "POST", "/files", b"data")).status_code == 400


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("SendInput", b"{"),
        ("SendInput", b"{}"),
        ("CloseStdin", b"[]"),
        ("SendSignal", b"{}"),
        ("Start", b""),
        ("Start", b"\0\0\0\0\2{}"),
    ],
)
async def test_the_daemon_refuses_messages_that_it_cannot_read(
    e2b: Emulator, sandbox: vendor.AsyncSandbox, name: str, body: bytes
) -> None:
    answer = await ask_inside(e2b, sandbox, "POST", f"/process.Process/{name}", body)
    assert answer.status_code == 400
    assert json.loads(answer.content)["code"] == "invalid_argument"


@pytest.mark.parametrize("is_closed", [False, True])
async def test_input_for_a_program_whose_stdin_is_not_open_is_an_internal_error(
    sandbox: vendor.AsyncSandbox, is_closed: bool
) -> None:
    handle = await sandbox.commands.run("exec sleep 600", background=True, stdin=is_closed, timeout=0)
    if is_closed:
        await sandbox.commands.close_stdin(handle.pid)
    with pytest.raises(vendor.SandboxException, match="stdin not enabled or closed"):
        await sandbox.commands.send_stdin(handle.pid, "text")
    with pytest.raises(vendor.SandboxException, match="stdin not enabled or closed"):
        await sandbox.commands.close_stdin(handle.pid)
    await handle.kill()


async def test_input_for_a_program_that_has_ended_is_not_found(sandbox: vendor.AsyncSandbox) -> None:
    handle = await sandbox.commands.run("exit 0", background=True, stdin=True, timeout=0)
    await handle.wait()
    with pytest.raises(vendor.NotFoundException):
        await sandbox.commands.send_stdin(handle.pid, "text")
    with pytest.raises(vendor.NotFoundException):
        await sandbox.commands.close_stdin(handle.pid)


async def test_a_terminal_is_refused_by_name(sandbox: vendor.AsyncSandbox) -> None:
    with pytest.raises(vendor.SandboxException, match="no ptys"):
        await sandbox.pty.create(vendor.PtySize(rows=24, cols=80), on_data=print)


async def test_a_request_whose_handler_fails_is_a_500_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(exchange: Exchange) -> None:
        found: dict[str, Any] = {"/": b"fine", "/begun": None}
        if exchange.request.target == "/begun":
            await exchange.start(200, {})
        await exchange.reply(200, found[exchange.request.target.partition("?")[0]])

    async with LoopbackServer(handle) as server, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(server.url + "/missing?key=value")).status_code == 500
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url + "/begun")
        assert (await client.get(server.url + "/")).content == b"fine"
    messages = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert messages == ["the handler failed for GET /missing", "the handler failed for GET /begun"]

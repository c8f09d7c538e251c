"""Checks of what only some sandboxes can do: section 7 of the contract."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from agenthost.errors import SandboxPausedError
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.supports import SupportsPause, SupportsPorts, SupportsSnapshot
from agenthost.testing.conformance.bounds import python_of
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.kit import Conformance
from agenthost.testing.conformance.lifecycle import made
from agenthost.testing.conformance.streams import read_line

# Listens on all addresses and tells where; answers with its argument and the path that was asked for.
_SERVE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (sys.argv[1] + self.path).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

server = HTTPServer(("0.0.0.0", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""
_NOT_YET = (502, 503, 504)  # of a proxy that has not seen the server


def _able(sandbox: Sandbox) -> Any:
    """Return what has the methods of ``supports``: the Backend; the sandbox itself where there is none."""
    return getattr(sandbox, "backend", sandbox)


async def _get(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return the status and the body of an answer; 0 and nothing where none came."""
    from agenthost.http import HttpClient, TransportError  # which take long to import

    # Plain HTTP is a way that lies in this machine: a proxy does not lead there.
    async with HttpClient(direct=url.startswith("http:")) as client:
        try:
            async with client.stream("GET", url, list(headers.items()), b"") as answer:
                return answer.status, b"".join([chunk async for chunk in answer.chunks])
        except TransportError:
            return 0, b""


class AbilityChecks(Conformance):
    """Snapshots, ports and pauses: each where the provider has it."""

    @clause("7.1", needs="snapshot")
    async def test_a_snapshot_is_an_image_of_what_was_there(self, provider: SandboxProvider) -> None:
        """Also when the sandbox has ended, which goes on until then."""
        async with made(provider, self.spec) as first:
            await first.write_file("folder/kept", b"as it was")
            able = _able(first)
            assert isinstance(able, SupportsSnapshot)
            image = await able.snapshot()
            assert await first.read_file("folder/kept") == b"as it was"
            await first.write_file("folder/kept", b"changed")
        try:
            async with made(provider, replace(self.spec, image=image)) as second:
                assert second.id != first.id
                assert await second.read_file("folder/kept") == b"as it was"
                assert (await second.exec(["cat", "folder/kept"])).stdout == b"as it was"
        finally:
            await self.forget_image(provider, image)

    @clause("7.2", needs=("system", "ports"))
    async def test_a_port_is_reached_with_what_its_endpoint_says(self, sandbox: Sandbox) -> None:
        """And by nobody who lacks one of the headers, where there are any."""
        mark = secrets.token_hex(8)
        able = _able(sandbox)
        assert isinstance(able, SupportsPorts)
        async with sandbox.spawn([python_of(sandbox), "-I", "-c", _SERVE, mark]) as server:
            endpoint = await able.endpoint(int(await read_line(server)))
            url = f"{endpoint.url}/some/path?and=more"
            while (got := await _get(url, endpoint.headers))[0] in _NOT_YET:  # noqa: ASYNC110 - it tells only who asks
                await anyio.sleep(0.1)
            assert got == (200, f"{mark}/some/path?and=more".encode())
            for name in endpoint.headers:
                others = {other: value for other, value in endpoint.headers.items() if other != name}
                _, body = await _get(url, others)
                assert mark.encode() not in body

    @clause("7.3", needs=("system", "pause"))
    async def test_a_paused_sandbox_stays_so_until_it_is_resumed(self, provider: SandboxProvider) -> None:
        """No call wakes it; then the same object goes on. Both may be asked for twice."""
        async with made(provider, self.spec) as sandbox:
            await sandbox.write_file("kept", b"as it was")
            able = _able(sandbox)
            assert isinstance(able, SupportsPause)
            await able.pause()
            await able.pause()

            async def spawn() -> None:
                async with sandbox.spawn(["true"]):
                    pass

            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: sandbox.exec(["true"]),
                lambda: sandbox.read_file("kept"),
                lambda: sandbox.write_file("kept", b"changed"),
                spawn,
                lambda: provider.get(sandbox.id),
            ]
            for call in calls:
                with pytest.raises(SandboxPausedError):
                    await call()
                assert (await sandbox.info()).state == "paused"
            assert [one.state async for one in provider.list() if one.id == sandbox.id] == ["paused"]
            await able.resume()
            await able.resume()
            assert (await sandbox.info()).state == "running"
            assert await sandbox.read_file("kept") == b"as it was"

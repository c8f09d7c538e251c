"""The client that every request goes through."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import anyio.abc
import pytest

from agenthost.http import HttpClient, TransportError


@pytest.mark.parametrize("ending", ["the server hangs up", "the request is cancelled"])
async def test_a_body_whose_request_has_failed_is_closed(ending: str) -> None:
    begun, closed = anyio.Event(), anyio.Event()

    async def body() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                begun.set()
        finally:
            closed.set()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await begun.wait()
            if ending == "the request is cancelled":
                asking.cancel()
                await closed.wait()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with HttpClient(direct=True) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        with anyio.CancelScope() as asking:
            with pytest.raises(TransportError):
                async with client.stream("POST", f"http://127.0.0.1:{port}/", [], body()):
                    pass
        assert closed.is_set()
        tasks.cancel_scope.cancel()
    await listener.aclose()

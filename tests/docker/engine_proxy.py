"""A way to a container engine that loses answers: what lies between a host and its engine may break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream
from anyio.streams.stapled import MultiListener

from agenthost.background import BackgroundTasks
from agenthost.providers.docker.address import find_address

_CHUNK = 64 * 1024


@dataclass
class Fault:
    """What happens to the first request that begins with ``request``.

    Attributes:
        request: The beginning of its first line.
        kind: ``lose``: it is done, its answer never comes; ``hold``: its answer is kept until ``release``.
        struck: Set when the request was passed on.
        release: Set it to let the answer pass.
    """

    request: str
    kind: str
    struck: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def engine_proxy(host: str, *faults: Fault) -> AsyncGenerator[str]:
    """Yield an address that leads to the engine at ``host``."""
    address = find_address(host)
    waiting = list(faults)

    async def connect() -> ByteStream:
        if address.path is not None:
            return await anyio.connect_unix(address.path)
        return await anyio.connect_tcp(address.host, address.port)

    async def serve(client: ByteStream) -> None:
        async with client, await connect() as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(answers, client, engine)
            await requests(client, engine)
            with_end = getattr(engine, "send_eof", None)
            if with_end is not None:
                await with_end()

    fault_of: dict[int, Fault] = {}

    async def requests(client: ByteStream, engine: ByteStream) -> None:
        try:
            async for data in client:
                for fault in waiting:
                    if data.startswith(fault.request.encode()):
                        waiting.remove(fault)
                        fault_of[id(engine)] = fault
                        break
                await engine.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def answers(client: ByteStream, engine: ByteStream) -> None:
        try:
            async for data in engine:
                fault = fault_of.pop(id(engine), None)
                if fault is not None:
                    fault.struck.set()
                    if fault.kind == "lose":
                        break
                    await fault.release.wait()
                await client.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            fault_of.pop(id(engine), None)
            await anyio.aclose_forcefully(client)

    listener: MultiListener[ByteStream] = await anyio.create_tcp_listener(local_host="127.0.0.1")  # type: ignore[assignment] # its sockets are byte streams
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, BackgroundTasks() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"tcp://127.0.0.1:{port}"

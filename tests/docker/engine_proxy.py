"""A way to a container engine that loses answers: what lies between a host and its engine may break."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream
from anyio.streams.stapled import MultiListener

from agenthost.background import BackgroundTasks
from agenthost.providers.docker.address import find_address

_REQUEST = re.compile(rb"([A-Z]+ [^ ?]+)[^ ]* HTTP/1\.1\r\n")


@dataclass
class Fault:
    """What happens to the first request that begins with ``request``.

    Attributes:
        request: The beginning of its first line.
        kind: ``lose``: it is done, its answer never comes; ``hold``: its answer is kept until ``release``;
            ``drop``: it is cut off before it is done; ``drop-later``: likewise, after ``release``.
        struck: Set when the request has come; of one that is done, when its answer has.
        release: Set it to let the answer pass, or to cut the request off.
    """

    request: str
    kind: str
    struck: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def engine_proxy(
    host: str, *faults: Fault, plan: list[Fault] | None = None, calls: list[str] | None = None
) -> AsyncGenerator[str]:
    """Yield an address that leads to the engine at ``host``.

    Args:
        host: The engine's address.
        faults: What goes wrong.
        plan: More of the same, to which faults may be added later. Those that have happened are removed.
        calls: Gets the method and path of each request.
    """
    address = find_address(host)
    waiting = [] if plan is None else plan
    waiting += faults

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
                if calls is not None and (line := _REQUEST.match(data)) is not None:
                    calls.append(line[1].decode())
                for fault in waiting:
                    if data.startswith(fault.request.encode()):
                        waiting.remove(fault)
                        fault_of[id(engine)] = fault
                        break
                fault = fault_of.get(id(engine))
                if fault is not None and fault.kind.startswith("drop"):
                    fault.struck.set()
                    if fault.kind == "drop-later":
                        await fault.release.wait()
                    return
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

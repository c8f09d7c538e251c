"""Containers that make images, or look into them: started at most once, and gone afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from agenthost.owners import note, note_gone, note_made, owner_id
from agenthost.providers.docker import labels
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.spec import generate_name

_LONGEST = 1800.0  # seconds; after that who cleans up may take it away, whoever its owner was
_REMOVING = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program in such a container did."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@asynccontextmanager
async def one_off(
    engine: Engine, image: str, argv: Sequence[str], *, user: str = "0:0"
) -> AsyncGenerator[str]:
    """Make a container without a network, not started yet, and yield its id. It is removed with the block.

    Raises:
        EngineError: It could not be made.
    """
    name = generate_name()
    now = time.time()
    config: Mapping[str, object] = {
        "Image": image,
        "Entrypoint": [argv[0]],
        "Cmd": list(argv[1:]),
        "User": user,
        "WorkingDir": "/",
        "Env": ["HOME=/tmp", "LANG=C.UTF-8"],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {
            labels.PROVIDER: "docker",
            labels.KIND: "builder",
            labels.NAME: name,
            labels.CREATED: repr(now),
            labels.END: repr(now + _LONGEST),
            labels.OWNER: owner_id(),
        },
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
        },
    }
    container = ""
    note_made(name)  # before it is there: who is killed in between leaves nothing unknown
    try:
        with anyio.CancelScope(shield=True):  # cancelled halfway, nobody would know whether it is there
            made = await engine.ask("POST", "/containers/create", query={"name": name}, body=config)
            container = str(made["Id"])
        note("owned", "docker", container)
        yield container
    finally:
        with anyio.move_on_after(_REMOVING, shield=True):
            if await _remove(engine, name):
                note_gone(name)
                if container:
                    note("ended", "docker", container)


async def _remove(engine: Engine, name: str) -> bool:
    """Return whether it has gone. Otherwise ``reap`` finds it when this process has ended."""
    try:
        await engine.ask("DELETE", f"/containers/{name}", query={"force": True, "v": True})
    except EngineError as exc:
        return exc.status == 404
    return True


async def run(engine: Engine, container: str, *, within: float) -> Ran:
    """Start it and wait for its end.

    Raises:
        EngineError: It could not be started, for want of its program for instance.
        TimeoutError: It ran for too long.
    """
    query = {"stream": True, "stdout": True, "stderr": True}
    with anyio.fail_after(within):
        stream = await engine.upgrade(f"/containers/{container}/attach", {}, query=query)
        try:
            await engine.ask("POST", f"/containers/{container}/start")
            out = b""
            while data := await stream.receive():
                out += data
            ended = await engine.ask("POST", f"/containers/{container}/wait", within=None)
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
    return Ran(int(ended["StatusCode"]), out, stream.stderr)

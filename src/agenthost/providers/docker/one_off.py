"""Containers that make images, or look into them: started at most once, and gone afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio

from agenthost.providers.docker import labels
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.spec import generate_name

_LONGEST = 1800.0  # seconds; after that who cleans up may take it away
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
        },
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
        },
    }
    made: dict[str, object] = {}
    try:
        with anyio.CancelScope(shield=True):  # cancelled halfway, nobody would know whether it is there
            made = await engine.ask("POST", "/containers/create", query={"name": name}, body=config)
        yield str(made["Id"])
    finally:
        with anyio.move_on_after(_REMOVING, shield=True), suppress(EngineError):
            await engine.ask("DELETE", f"/containers/{name}", query={"force": True, "v": True})


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


async def remove_overdue(engine: Engine) -> None:
    """Remove such containers whose host died before it could: those that are older than any may be."""
    wanted = {labels.PROVIDER: "docker", labels.KIND: "builder"}
    query = {"all": True, "filters": {"label": labels.as_filter(wanted)}}
    found: list[dict[str, Any]] = await engine.ask("GET", "/containers/json", query=query)
    for one in found:
        own: dict[str, str] = one.get("Labels") or {}
        if labels.has_all(own, wanted) and float(own.get(labels.END, "inf")) < time.time():
            with suppress(EngineError):  # somebody else removes it
                await engine.ask("DELETE", f"/containers/{one['Id']}", query={"force": True, "v": True})

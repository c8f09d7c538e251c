"""One container, seen from a host."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import anyio
import anyio.lowlevel

from agenthost.errors import SandboxGoneError, SandboxNotFoundError, SandboxPausedError, SandboxStartError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.bounds import describe
from agenthost.providers.docker.carriers import dial_by_exec, dial_by_socket
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.snapshotting import snapshot
from agenthost.providers.docker.upgraded import UpgradedStream
from agenthost.sandbox import Carrier, SandboxInfo, SandboxState

CarrierName = Literal["stdio", "socket"]

_WORDS_SECONDS = 5.0  # that the end of a container's output may take, when it has ended
_REMOVING = 60.0
_EVENTS_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_STATES: Mapping[str, SandboxState] = {"created": "starting", "running": "running", "paused": "paused"}


class DockerBackend:
    """A sandbox's container. Made by this process, or found by its id."""

    def __init__(
        self,
        engine: Engine,
        told: Mapping[str, Any],
        *,
        carrier: CarrierName,
        output: UpgradedStream | None = None,
    ) -> None:
        self._engine = engine
        self._last = to_info(told)
        self._container = str(told["Id"])
        self._user = str(told["Config"]["User"])  # the guest's; the agent's in a container of agenthost 0.1
        self._python = labels.to_spec(told["Config"]["Labels"])[labels.PYTHON]
        mounts = {mount["Destination"]: mount["Source"] for mount in told["Mounts"]}
        self._volume = str(mounts.get(paths.BOOT, ""))
        self._volumes = volumes_of(told)
        self._carrier: CarrierName = carrier
        self._output = output

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self._last.name

    async def boot(self) -> None:
        """The guest starts with the container: wait for nothing."""
        await anyio.lowlevel.checkpoint()

    async def dial(self) -> Carrier:
        """Reach the guest.

        Raises:
            SandboxStartError: It never came up; with what it printed.
            SandboxGoneError: The container has ended.
            SandboxPausedError: Somebody paused it.
        """
        try:
            if self._carrier == "socket":
                return await dial_by_socket(self._volume)
            argv = [self._python, "-I", "-S", f"{paths.BOOT}/guest.pyz", "dial"]
            argv += ["--socket", f"{paths.RUN}/{paths.SOCKET_NAME}"]
            return await dial_by_exec(self._engine, self._container, argv, user=self._user)
        except (EngineError, OSError):
            info = await self.info()
            if info.state == "ended":
                raise await self._ended() from None
            if info.state == "paused":
                raise SandboxPausedError(
                    f"sandbox {info.name} is paused: docker unpause {info.name}"
                ) from None
            raise

    async def info(self) -> SandboxInfo:
        """Ask the engine. What has gone is ``ended``, with what was known of it.

        Raises:
            SandboxStartError: It never came up; with what it printed.
        """
        try:
            told = await self._engine.ask("GET", f"/containers/{self._container}/json")
            self._last = to_info(told)
        except EngineError as exc:
            if exc.status != 404:
                raise
            self._last = replace(self._last, state="ended")
        if self._last.state == "ended" and self._output is not None:
            raise await self._ended()
        return self._last

    async def terminate(self) -> None:
        """Kill it and remove it with its volumes. Idempotent."""
        await remove(self._engine, self._container, self._volumes)
        await self.settle()

    async def snapshot(self, name: str | None = None) -> str:
        """Return an image of its working and home directory on its image. See SupportsSnapshot.

        Args:
            name: The image's tag, below ``agenthost/snapshot``; another image that has it loses it.
        """
        info = await self.info()
        if info.state == "ended":
            raise await self._ended()
        image, workdir = info.resources["image"], info.labels[labels.WORKDIR]
        return await snapshot(self._engine, self._container, image, workdir, name)

    async def settle(self) -> None:
        """It runs, or has gone: listen to what it prints no more. Idempotent."""
        output, self._output = self._output, None
        if output is not None:
            await output.aclose()

    async def _ended(self) -> SandboxGoneError | SandboxStartError:
        name = self._last.name
        output = self._output
        if output is None:
            return SandboxGoneError(f"sandbox {name} has ended{await self._want_of_memory()}")
        with anyio.move_on_after(_WORDS_SECONDS), suppress(OSError):
            while await output.receive():
                pass
        said = output.stderr.decode(errors="replace").strip()
        await self.settle()
        return SandboxStartError(f"sandbox {name} did not come up; it said: {said or 'nothing'}")

    async def _want_of_memory(self) -> str:
        """Return in words that its memory was used up, from the engine's last events; empty if it was not."""
        query = {
            "since": int(self._last.created_at or 0),
            "until": int(time.time()) + 1,
            "filters": {"container": [self._container], "event": ["oom"]},
        }
        try:
            # The engine forgets containers that have ended, and remembers some hundred events.
            with anyio.fail_after(_EVENTS_SECONDS):
                async with self._engine.stream("GET", "/events", query=query) as answer:
                    # One line of JSON for each event: one is enough, and there may be many.
                    is_known = any([chunk.strip() async for chunk in answer.chunks])
        except (EngineError, TimeoutError):
            return ""  # it is only an explanation
        if not is_known:
            return ""
        return (
            f". Its memory was used up, {self._last.resources['memory']}, and the kernel killed some of its "
            "processes. Give it more, SandboxSpec(limits=ResourceLimits(memory_mib=...)), or let it do less "
            "at once"
        )


def volumes_of(told: Mapping[str, Any]) -> list[str]:
    """Return the names of a container's volumes, from the engine's description of the container."""
    mounts: list[Mapping[str, Any]] = told["Mounts"]
    return [str(mount["Name"]) for mount in mounts if mount.get("Type") == "volume"]


async def remove(engine: Engine, container: str, volumes: Sequence[str] = ()) -> None:
    """Remove a container and the volumes that go with it; return when they have gone. Idempotent.

    Args:
        engine: Where it is.
        container: Its id.
        volumes: Names of its volumes, whose end is waited for.
    """
    with anyio.fail_after(_REMOVING):
        while True:
            try:
                await engine.ask("DELETE", f"/containers/{container}", query={"force": True, "v": True})
            except EngineError as exc:
                if exc.status == 404:
                    break
                if exc.status != 409:
                    raise
                # Its end takes it away, or somebody else does.
                with suppress(EngineError):
                    await engine.ask(
                        "POST", f"/containers/{container}/wait", query={"condition": "removed"}, within=None
                    )

        # An engine answers 404 a moment before the container and its volumes leave its lists.
        listed = {"all": True, "filters": json.dumps({"id": [container]})}
        while await engine.ask("GET", "/containers/json", query=listed):  # noqa: ASYNC110 - an engine sends no event for this
            await anyio.sleep(_LOOK_SECONDS)
        while volumes:
            found = await engine.ask("GET", "/volumes")
            if not {str(one["Name"]) for one in found["Volumes"] or ()} & set(volumes):
                return
            await anyio.sleep(_LOOK_SECONDS)


def to_info(told: Mapping[str, Any]) -> SandboxInfo:
    """Return what an engine says of a container.

    Raises:
        SandboxNotFoundError: It is none of ours.
    """
    config, host = told["Config"], told["HostConfig"]
    own: Mapping[str, str] = config.get("Labels") or {}
    if own.get(labels.KIND) != "sandbox":
        raise SandboxNotFoundError(f"container {str(told['Id'])[:12]} is no sandbox of agenthost")
    network = "open" if host.get("NetworkMode") != "none" else "none"
    resources = {
        "uid": str(paths.UID),
        "network": network,
        **describe(host),
        "root": "read-only" if host.get("ReadonlyRootfs") else "writable",
        "tmp": _size(str(dict[str, str](host.get("Tmpfs") or {}).get("/tmp", ""))),
        "image": str(told.get("Image", "")),
        "runtime": str(host.get("Runtime") or told.get("OCIRuntime") or ""),
    }
    return SandboxInfo(
        id=str(told["Id"]),
        name=own[labels.NAME],
        provider=own[labels.PROVIDER],
        state=_STATES.get(str(told["State"]["Status"]), "ended"),
        labels=labels.to_spec(own),
        created_at=float(own[labels.CREATED]),
        expires_at=float(own[labels.END]),
        isolation="namespaces",
        resources=resources,
    )


def _size(options: str) -> str:
    return next((part.removeprefix("size=") for part in options.split(",") if part.startswith("size=")), "")

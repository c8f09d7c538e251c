"""Make and start a sandbox's container, so that nothing is left when it fails."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any

from agenthost.adapter.make_once import make_once
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import NameTakenError, SandboxStartError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.archives import Entry, pack
from agenthost.providers.docker.backend import CarrierName, DockerBackend, remove, volumes_of
from agenthost.providers.docker.bounds import bounds_of
from agenthost.providers.docker.container import container_config
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.upgraded import UpgradedStream
from agenthost.sandbox import Boot
from agenthost.spec import DEFAULT_LIFETIME, ResourceLimits, SandboxSpec

_MAKING = 150.0  # seconds: one request, and looking for a container whose making was not answered
_CLEANUP = 60.0  # seconds
_LOOKS = (0.0, *(0.1 * look for look in range(1, 20)))  # seconds; an engine may be starting anew
_ENTER = "enter.py"
_READABLE = ("runner.pyz",)  # by the agent, whose program it is


async def make_container(
    engine: Engine, spec: SandboxSpec, boot: Boot, image: str, *, carrier: CarrierName, tmp_mib: int | None
) -> DockerBackend:
    """Make a container that runs the guest.

    Raises:
        NameTakenError: The name belongs to another container.
        SandboxStartError: It could not be made or started; in the engine's words.
    """
    outputs: list[UpgradedStream] = []
    bounds = bounds_of(spec, await engine.facts())

    async def create() -> str:
        query = {"name": spec.name or ""}
        try:
            made = await engine.ask(
                "POST", "/containers/create", query=query, body=_config(spec, image, bounds, tmp_mib)
            )
        except EngineError as exc:
            # podman answers 500 to everything.
            if exc.status == 409 or "already in use" in str(exc):
                raise NameTakenError(f"there is a container called {spec.name} already") from exc
            raise
        return str(made["Id"])

    async def find() -> str | None:
        found = await _find(engine, spec)
        return None if found is None else str(found["Id"])

    async def start(container: str) -> None:
        # Into a volume: a read-only root takes no archive, not even where a tmpfs is mounted later.
        where, query = f"/containers/{container}", {"path": paths.BOOT}
        await engine.ask("PUT", f"{where}/archive", query=query, body=pack(_boot_files(boot)))
        streams = {"stream": True, "stdout": True, "stderr": True}
        outputs.append(await engine.upgrade(f"{where}/attach", {}, query=streams))
        await engine.ask("POST", f"{where}/start")

    async def end(container: str) -> None:
        for output in outputs:
            await output.aclose()
        found = await _find(engine, spec)
        await remove(engine, container, () if found is None else volumes_of(found))

    try:
        container = await make_once(
            f"sandbox {spec.name}",
            create=create,
            find=find,
            end=end,
            finish=start,
            within=_MAKING,
            cleanup=_CLEANUP,
            looks=_LOOKS,
        )
    except EngineError as exc:
        if exc.status == 0:
            raise
        raise SandboxStartError(f"sandbox {spec.name} could not be started: {exc}") from exc
    told = await engine.ask("GET", f"/containers/{container}/json")
    return DockerBackend(engine, told, carrier=carrier, output=outputs[0])


def _config(spec: SandboxSpec, image: str, bounds: ResourceLimits, tmp_mib: int | None) -> dict[str, object]:
    now = time.time()
    own = {
        labels.PROVIDER: "docker",
        labels.KIND: "sandbox",
        labels.NAME: spec.name or "",
        labels.CREATED: repr(now),
        labels.END: repr(now + (spec.max_lifetime or DEFAULT_LIFETIME)),
    }
    start = [spec.labels[labels.PYTHON], "-I", "-S"]
    argv = [*start, f"{paths.BOOT}/{_ENTER}", *start, f"{paths.BOOT}/guest.pyz", "serve"]
    argv += ["--boot", f"{paths.BOOT}/boot.json", "--socket", f"{paths.RUN}/{paths.SOCKET_NAME}"]
    return container_config(spec, image, argv, own, bounds=bounds, tmp_mib=tmp_mib)


def _boot_files(boot: Boot) -> list[Entry]:
    enter = files("agenthost.providers.docker").joinpath(_ENTER).read_bytes()
    folders = [path.removeprefix(f"{paths.BOOT}/") for path in (paths.SPOOL, paths.RUN)]
    return [
        *(Entry(name, None, 0o700) for name in folders),
        *(
            Entry(name, data, 0o644 if name in _READABLE else 0o600)
            for name, data in {**boot.files, _ENTER: enter}.items()
        ),
    ]


async def _find(engine: Engine, spec: SandboxSpec) -> dict[str, Any] | None:
    """Return the container of this very sandbox, not one that only has its name."""
    try:
        told: dict[str, Any] = await engine.ask("GET", f"/containers/{spec.name}/json")
    except EngineError as exc:
        if exc.status == 404:
            return None
        raise
    own = labels.to_spec(told["Config"].get("Labels") or {})
    return told if own.get(NONCE_LABEL) == spec.labels[NONCE_LABEL] else None

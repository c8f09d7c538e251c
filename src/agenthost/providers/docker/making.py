"""Make and start a sandbox's container, so that nothing is left when it fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import anyio

from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError, ProviderError, SandboxStartError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.archives import Entry, pack
from agenthost.providers.docker.backend import CarrierName, DockerBackend, remove, volumes_of
from agenthost.providers.docker.container import container_config
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.upgraded import UpgradedStream
from agenthost.sandbox import Boot
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

_CLEANUP = 60.0  # seconds
_ENTER = "enter.py"
_LOOKS = 20  # at whether a container is there whose making was not answered


async def make_container(
    engine: Engine, spec: SandboxSpec, boot: Boot, image: str, *, carrier: CarrierName, tmp_mib: int
) -> DockerBackend:
    """Make a container that runs the guest.

    Raises:
        ConfigError: Its name is taken.
        SandboxStartError: It could not be made or started; in the engine's words.
    """
    name = spec.name or ""
    output: UpgradedStream | None = None
    try:
        container = await _create(engine, spec, _config(spec, image, tmp_mib))
        archive = pack(_boot_files(boot))
        query = {"path": paths.BOOT}
        # Into a volume: a read-only root takes no archive, not even where a tmpfs is mounted later.
        await engine.ask("PUT", f"/containers/{container}/archive", query=query, body=archive)
        output = await engine.upgrade(
            f"/containers/{container}/attach", {}, query={"stream": True, "stdout": True, "stderr": True}
        )
        await engine.ask("POST", f"/containers/{container}/start")
        told = await engine.ask("GET", f"/containers/{container}/json")
        return DockerBackend(engine, told, carrier=carrier, output=output)
    except BaseException as exc:
        with anyio.move_on_after(_CLEANUP, shield=True):
            if output is not None:
                await output.aclose()
            if not isinstance(exc, ConfigError):
                await _remove_ours(engine, spec)
        if isinstance(exc, EngineError) and exc.status:
            raise SandboxStartError(f"sandbox {name} could not be started: {exc}") from exc
        raise


def _config(spec: SandboxSpec, image: str, tmp_mib: int) -> dict[str, object]:
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
    return container_config(spec, image, argv, own, tmp_mib=tmp_mib)


def _boot_files(boot: Boot) -> list[Entry]:
    enter = files("agenthost.providers.docker").joinpath(_ENTER).read_bytes()
    folders = [path.removeprefix(f"{paths.BOOT}/") for path in (paths.SPOOL, paths.RUN)]
    return [
        *(Entry(name, None, 0o700, paths.UID) for name in folders),
        *(Entry(name, data, 0o600, paths.UID) for name, data in {**boot.files, _ENTER: enter}.items()),
    ]


async def _create(engine: Engine, spec: SandboxSpec, config: Mapping[str, object]) -> str:
    query = {"name": spec.name or ""}
    container = ""
    # It takes some 50 ms. Cancelled in the middle, nobody could say whether the container is there.
    with anyio.CancelScope(shield=True):
        try:
            made = await engine.ask("POST", "/containers/create", query=query, body=config)
            container = str(made["Id"])
        except EngineError as exc:
            # podman says 500 for everything.
            taken = exc.status == 409 or "already in use" in str(exc)
            if exc.status and not taken:
                raise
            found = await _find(engine, spec, looks=1 if taken else _LOOKS)
            if found is None and taken:
                raise ConfigError(f"there is a container called {spec.name} already") from exc
            if found is None:
                raise ProviderError(f"sandbox {spec.name} could not be made: {exc}") from exc
            container = str(found["Id"])  # its answer was lost on the way
    return container


async def _find(engine: Engine, spec: SandboxSpec, *, looks: int = 1) -> dict[str, Any] | None:
    """Return the container of this very sandbox, not one that only has its name."""
    for look in range(looks):
        if look:
            await anyio.sleep(0.1 * look)  # the engine is starting anew, or still at work
        try:
            told: dict[str, Any] = await engine.ask("GET", f"/containers/{spec.name}/json")
        except EngineError as exc:
            if exc.status == 404:
                continue
            if look == looks - 1:
                raise
            continue
        own = labels.to_spec(told["Config"].get("Labels") or {})
        return told if own.get(NONCE_LABEL) == spec.labels[NONCE_LABEL] else None
    return None


async def _remove_ours(engine: Engine, spec: SandboxSpec) -> None:
    found = await _find(engine, spec)
    if found is not None:
        await remove(engine, str(found["Id"]), volumes_of(found))

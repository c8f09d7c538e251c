"""Fly's machines, for one app."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from agenthost.adapter.cloud import Found
from agenthost.adapter.record import NONCE_LABEL, PROVIDER_LABEL
from agenthost.errors import ProviderError, QuotaError, SandboxNotFoundError
from agenthost.providers.fly.api import Call, FlyApi
from agenthost.providers.fly.carrier import FlyProgram, Shell, write_once
from agenthost.providers.fly.errors import CapacityError
from agenthost.providers.fly.machine import machine_config, machine_files
from agenthost.sandbox import SandboxState
from agenthost.spec import SandboxSpec

# A machine that was stopped would start again without its guest: auto_destroy removes it.
_ENDED = ("stopped", "destroying", "destroyed", "failed", "launch_failed", "replaced", "migrated")
_STATES: Mapping[str, SandboxState] = {
    "started": "running",
    "stopping": "running",
    "suspending": "paused",
    "suspended": "paused",
    **dict.fromkeys(_ENDED, "ended"),
}


class FlyVendor:
    """See Vendor.

    Args:
        api: The Machines API.
        app: The app whose machines these are.
        regions: Where machines are made: the first that has room.
        directory: Of the guest, in each machine.
    """

    names_are_unique = True  # within the app

    def __init__(self, api: FlyApi, *, app: str, regions: Sequence[str], directory: str) -> None:
        self.api = api
        self.calls = api.calls
        self._app = app
        self._regions = regions
        self._directory = directory

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> str:
        """Make a machine, in the first region that has room. See Vendor."""
        config = machine_config(spec, labels, self._directory)
        full = ProviderError("there is no region")
        for region in [spec.region] if spec.region else self._regions or [""]:
            body = {"name": spec.name, "config": config, **({"region": region} if region else {})}
            call = Call("create machine", "POST", self.path(), body=body)
            try:
                made = await self.api.once(f"making sandbox {spec.name} in region {region or 'any'}", call)
                return str(made["id"])
            except (CapacityError, QuotaError) as error:
                full = error
        raise full

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield machines, newest first. See Vendor."""
        # One condition, the narrowest; what several mean together is not documented.
        names = sorted(labels, key=lambda name: (name != NONCE_LABEL, name == PROVIDER_LABEL))
        query = {f"metadata.{name}": labels[name] for name in names[:1]}
        machines: list[Any] = await self.api.again(
            "listing the sandboxes", Call("list machines", "GET", self.path(), query)
        )
        for one in sorted(map(_found, machines), key=lambda one: one.created_at or 0, reverse=True):
            if labels.items() <= one.labels.items() and one.state != "ended":
                yield replace(one, created_at=None)  # the labels have the time that callers know

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one machine. See Vendor."""
        call = Call("get machine", "GET", self.path(sandbox_id))
        found = _found(await self.api.again(f"looking up sandbox {sandbox_id}", call))
        if found.state == "ended":
            raise SandboxNotFoundError(f"machine {sandbox_id} of Fly has ended")
        return found

    async def connect(self, found: Found) -> str:
        """Return the handle. No call is made."""
        return found.id

    def id_of(self, handle: str) -> str:
        """Return Fly's id."""
        return handle

    async def kill(self, sandbox_id: str) -> None:
        """Destroy a machine, whatever it does. See Vendor."""
        try:
            call = Call("delete machine", "DELETE", self.path(sandbox_id), {"force": "true"})
            await self.api.again(f"ending sandbox {sandbox_id}", call)
        except SandboxNotFoundError:
            return

    async def put_files(self, handle: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Write the files that the machine did not start with. See Vendor and ``write_once``."""
        others = {name: data for name, data in files.items() if name not in machine_files()}
        await write_once(Shell(self.api, self.path(handle, "exec")), directory, others)

    async def run(self, handle: str, argv: Sequence[str], *, env: Mapping[str, str]) -> FlyProgram:
        """Start the first program. See Vendor and FlyProgram."""
        program = FlyProgram(Shell(self.api, self.path(handle, "exec")), self._directory)
        await program.start(argv, env)
        return program

    async def aclose(self) -> None:
        """Close the client."""
        await self.api.aclose()

    def path(self, *rest: str) -> tuple[str, ...]:
        """Return where the machines are, or one of them, in the API."""
        return (self._app, "machines", *rest)


def _found(machine: Any) -> Found:
    config, image = machine["config"], machine.get("image_ref", {})
    size = config.get("guest", {})
    resources = {
        "cpu": f"{size.get('cpus')} {size.get('cpu_kind')}",
        "memory": f"{size.get('memory_mb')} MiB",
        "image": f"{image.get('registry')}/{image.get('repository')}@{image.get('digest')}",
        **{name: str(machine.get(name, "")) for name in ("region", "private_ip")},
    }
    return Found(
        id=machine["id"],
        labels=config.get("metadata", {}),
        state=_STATES.get(machine["state"], "starting"),
        created_at=datetime.fromisoformat(machine["created_at"]).timestamp(),
        resources=resources,
    )

"""Daytona by the vendor's own client, for one account. See Vendor."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

import anyio

from agenthost.adapter.calls import Calls
from agenthost.adapter.cloud import Found
from agenthost.adapter.record import NAME_LABEL
from agenthost.errors import SandboxNotFoundError
from agenthost.providers.daytona.carrier import SessionCommand
from agenthost.providers.daytona.errors import error_rows
from agenthost.providers.daytona.network import network_of, secrets_of
from agenthost.providers.daytona.workarounds import create_or_adopt, import_kit, open_client
from agenthost.sandbox import SandboxState
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec
from agenthost.threads import in_thread

_CLOSING = 10.0  # seconds
_PAGE = 100  # sandboxes in one answer of a list
_GONE = ("destroying", "destroyed")
# The agents are gone in each of these: a sandbox that stops keeps its disk only, and is deleted at once.
_ENDED = ("stopping", "stopped", "archiving", "archived", "error", "build_failed")
_PAUSED = ("pausing", "paused")


class DaytonaVendor:
    """See Vendor. A handle is a sandbox object of the client, and dies with the client.

    Args:
        fields: The client's configuration. See ``workarounds.settings``.

    Attributes:
        creating: Seconds for the client's ``create``, and then for a sandbox to start that it gave up on.
    """

    names_are_unique = False  # whether Daytona refuses a second sandbox of a name is not stated

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)
        self._client: Any = None
        self.creating = (40.0, 15.0)
        self.kit: Any = None
        secrets = [fields[name] for name in ("api_key", "jwt_token") if name in fields]
        self.calls = Calls("Daytona", lambda: error_rows(import_kit()), secrets=secrets)

    async def client(self) -> Any:
        """Return the client. Opens it the first time."""
        if self._client is None:
            self.kit = await in_thread(import_kit)  # seconds, the first time
            if self._client is None:  # another task may have been faster
                self._client = open_client(self.kit, self._fields)
        return self._client

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> Any:
        """Make a sandbox of the snapshot ``spec.image``. See Vendor."""
        client = await self.client()
        lifetime = spec.max_lifetime or DEFAULT_LIFETIME
        params = self.kit.CreateSandboxFromSnapshotParams(
            name=spec.name,
            snapshot=spec.image,
            labels=dict(labels),
            public=False,
            target=spec.region,
            # Daytona stops what nothing calls from outside, however busy: never without a lease, and a lease
            # is the time until then. What has stopped is deleted.
            auto_stop_interval=0 if spec.lease is None else minutes(min(spec.lease, lifetime)),
            auto_delete_interval=0,
            ttl_minutes=minutes(lifetime),
            secrets=secrets_of(spec) or None,
            **network_of(spec),
        )
        doing = f"making sandbox {spec.name} of snapshot {spec.image}"
        return await self.calls.when_free(doing, lambda: create_or_adopt(client, params, self.creating))

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield sandboxes. See Vendor. One that is looked for by its name is: a list may lag behind."""
        if NAME_LABEL in labels:
            with suppress(SandboxNotFoundError):
                found = await self.look_up(labels[NAME_LABEL])
                if labels.items() <= found.labels.items():
                    yield found
                    return  # else the list may have another of this name
        client, doing = await self.client(), "listing the sandboxes"
        query = self.kit.ListSandboxesQuery(labels=dict(labels), limit=_PAGE)
        async with aclosing(client.list(query)) as pages:
            while True:
                async with self.calls.bounded(doing):
                    sandbox = await anext(pages, None)
                if sandbox is None:
                    return
                if sandbox.state not in _GONE:
                    yield _found(sandbox)

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one sandbox, also by its name. See Vendor."""
        sandbox = await self._get(sandbox_id)
        if sandbox.state in _GONE:
            raise SandboxNotFoundError(f"Daytona has no sandbox {sandbox_id} any more")
        return _found(sandbox)

    async def connect(self, found: Found) -> Any:
        """Return the handle of a sandbox that runs, or starts in time. See Vendor."""
        sandbox, doing = await self._get(found.id), f"connecting to sandbox {found.id}"
        async with self.calls.bounded(doing):
            await sandbox.wait_for_sandbox_start(timeout=self.creating[1])
        return sandbox

    def id_of(self, handle: Any) -> str:
        """Return Daytona's id."""
        return str(handle.id)

    async def kill(self, sandbox_id: str) -> None:
        """Delete a sandbox, and return when it is gone: the client's ``delete`` alone does not wait."""
        with suppress(SandboxNotFoundError):
            sandbox, doing = await self._get(sandbox_id), f"ending sandbox {sandbox_id}"
            await self.calls.repeat(doing, lambda: sandbox.delete(timeout=25, wait=True))

    async def put_files(self, handle: Any, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files. See Vendor. Their content is bytes: of a text the client would read a local file."""
        file, into = self.kit.FileUpload, f"{directory}/"
        uploads = [file(source=bytes(data), destination=into + name) for name, data in files.items()]
        async with self.calls.bounded(f"writing files into sandbox {handle.id}"):
            await handle.fs.create_folder(directory, "700")
            await handle.fs.upload_files(uploads, timeout=60)

    async def run(self, handle: Any, argv: Sequence[str], *, env: Mapping[str, str]) -> SessionCommand:
        """Start a program. See Vendor."""
        doing = f"starting a program in sandbox {handle.id}"
        async with self.calls.bounded(doing, within=30, secrets=list(env.values())):
            return await SessionCommand(handle.process, self.calls).open(self.kit, argv, env)

    async def aclose(self) -> None:
        """Close the client: its connections, and the task in which it listens for events."""
        client, self._client = self._client, None
        if client is not None:
            with anyio.move_on_after(_CLOSING, shield=True):
                await client.close()

    async def _get(self, sandbox_id: str) -> Any:
        client = await self.client()
        return await self.calls.repeat(f"looking up sandbox {sandbox_id}", lambda: client.get(sandbox_id))


def minutes(seconds: float) -> int:
    """Return whole minutes, one or more, that are no shorter."""
    return max(1, math.ceil(seconds / 60))


def _found(sandbox: Any) -> Found:
    active, idle = _time(sandbox.last_activity_at), sandbox.auto_stop_interval
    ends = (_time(sandbox.auto_destroy_at), active + 60 * idle if active and idle else None)
    going: SandboxState = "running" if sandbox.state == "started" else "starting"
    given = ("cpu", "memory", "disk", "snapshot", "target")  # memory and disk are in GiB
    return Found(
        id=sandbox.id,
        labels=sandbox.labels,
        state="ended" if sandbox.state in _ENDED else "paused" if sandbox.state in _PAUSED else going,
        created_at=_time(sandbox.created_at),
        expires_at=min((end for end in ends if end is not None), default=None),
        isolation="microvm" if sandbox.sandbox_class == "linux-vm" else "namespaces",
        resources={name: str(getattr(sandbox, name)) for name in given},
    )


def _time(text: str | None) -> float | None:
    return None if not text else datetime.fromisoformat(text).timestamp()

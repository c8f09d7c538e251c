"""The sandboxes of one Worker."""

from __future__ import annotations

import hashlib
import re
import time
from base64 import b32encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from agenthost.adapter.bootstrap import SECONDS, archive_of
from agenthost.adapter.cloud import Found
from agenthost.adapter.provider import LifetimeLimitError
from agenthost.adapter.record import NONCE_LABEL, PORT_LABEL
from agenthost.errors import ProviderError, SandboxNotFoundError
from agenthost.providers.cloudflare.api import WorkerApi
from agenthost.providers.cloudflare.carrier import CloudflareProgram
from agenthost.providers.cloudflare.network import refuse_other_network
from agenthost.sandbox import SandboxState
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

_ID, _IDS = 26, re.compile(r"[a-z2-7]+\Z")  # characters of an id; what it is made of
# Seconds: the Worker waits 30 for a machine, 90 for its program, and then marks the container.
MAKING = 150.0
_UNPACKING = 30.0  # seconds
_MOST_LABELS = 30  # of one search; the Worker takes 32, and what it finds is compared with all
# $1 the archive, $2 the directory.
_UNPACK = (
    'umask 077; mkdir -p "$2" && chmod 700 "$2" && tar -xf "$1" -C "$2"; code=$?; rm -f "$1"; exit $code'
)


@dataclass(frozen=True, slots=True)
class Container:
    """What is needed to use a container.

    Attributes:
        id: The sandbox's.
        marker: What stands in a file of the container that agenthost has made. A container that Cloudflare
            has put in its place does not have it, and the Worker refuses to use that.
    """

    id: str
    marker: str

    @property
    def path(self) -> str:
        """Of the sandbox, among the routes of the Worker."""
        return f"/sandboxes/{self.id}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What each request to the container has."""
        return {"x-agenthost-marker": self.marker}


class CloudflareVendor:
    """See Vendor. The handle is a Container.

    Args:
        api: The Worker.
    """

    names_are_unique = False

    def __init__(self, api: WorkerApi) -> None:
        self.api = api
        self.calls = api.calls

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> Container:
        """Have the Worker write down a sandbox, and start and mark its container. See Vendor."""
        lifetime = spec.max_lifetime or DEFAULT_LIFETIME
        about = await self.api.about()
        refuse_other_network(spec.network, about.allowed)
        if lifetime > about.longest:
            hours = f"max_lifetime={lifetime:g}: this Worker allows {about.longest / 3600:g} hours at most"
            raise LifetimeLimitError(hours, about.longest)
        made = Container(sandbox_id(spec), spec.labels[NONCE_LABEL])
        body = {
            "labels": dict(labels),
            # A lease is the first end, which ``extend`` moves.
            "ends_at": time.time() + min(lifetime, spec.lease or lifetime),
            "marker": made.marker,
            "port": int(spec.labels[PORT_LABEL]),
        }
        doing = f"making sandbox {spec.name}"
        await self.calls.when_free(
            doing, lambda: self.api.rest.ask("PUT", made.path, body=body), within=MAKING
        )
        return made

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield sandboxes, newest first. See Vendor."""
        resources = (await self.api.about()).resources
        wanted = [("label", f"{k}={v}") for k, v in list(labels.items())[:_MOST_LABELS] if "=" not in k]
        cursor: str | None = None
        for _ in range(1000):  # pages of 100: more than an account may have
            query = urlencode([*wanted, *([] if cursor is None else [("cursor", cursor)])])
            page = await self.api.ask("listing the sandboxes", "GET", f"/sandboxes?{query}")
            for one in page.get("sandboxes", ()):
                found = _found(one, resources)
                if found.state != "ended" and labels.items() <= found.labels.items():
                    yield found
            if not (cursor := page.get("cursor")):
                return
        raise ProviderError("the Worker's list of sandboxes has no end")

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one sandbox. See Vendor."""
        if not _IDS.match(sandbox_id):
            raise SandboxNotFoundError(f"{sandbox_id!r} is not the id of a sandbox at Cloudflare")
        resources = (await self.api.about()).resources
        record = await self.api.ask(f"looking up sandbox {sandbox_id}", "GET", f"/sandboxes/{sandbox_id}")
        found = _found(record, resources)
        if found.state == "ended":
            raise SandboxNotFoundError(f"the container of sandbox {sandbox_id} has ended, or was replaced")
        return found

    async def connect(self, found: Found) -> Container:
        """Return the handle. No call is made."""
        return Container(found.id, found.labels[NONCE_LABEL])

    def id_of(self, handle: Container) -> str:
        """Return the sandbox's id."""
        return handle.id

    async def kill(self, sandbox_id: str) -> None:
        """Destroy the container and remove its record. See Vendor."""
        with suppress(SandboxNotFoundError):
            await self.api.ask(f"ending sandbox {sandbox_id}", "DELETE", f"/sandboxes/{sandbox_id}")

    async def put_files(self, handle: Container, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files: as one archive, since each call costs the Worker one look at the marker."""
        archive = f"/tmp/agenthost-{handle.marker}.tar"
        sent = {**handle.headers, "content-type": "application/x-tar"}
        path = f"{handle.path}/files?{urlencode({'path': archive})}"
        async with self.calls.bounded(f"writing files into sandbox {handle.id}"):
            await self.api.rest.ask("PUT", path, body=archive_of(files), headers=sent)
        unpack = ["sh", "-c", _UNPACK, "sh", archive, directory]
        program = await self._start(handle, unpack, env={}, timeout=_UNPACKING)
        try:
            async with self.calls.bounded(f"unpacking files in sandbox {handle.id}", within=_UNPACKING):
                while await program.receive():
                    pass
                code = await program.wait()
        finally:
            await program.aclose()
        if code != 0:
            printed = program.stderr.decode(errors="replace").strip()
            raise ProviderError(f"unpacking files in sandbox {handle.id}: exit code {code}: {printed}")

    async def run(
        self, handle: Container, argv: Sequence[str], *, env: Mapping[str, str]
    ) -> CloudflareProgram:
        """Start a program. See Vendor and CloudflareProgram."""
        return await self._start(handle, argv, env=env, timeout=SECONDS)

    async def aclose(self) -> None:
        """Close the client."""
        await self.api.aclose()

    async def _start(
        self, handle: Container, argv: Sequence[str], *, env: Mapping[str, str], timeout: float
    ) -> CloudflareProgram:
        program = CloudflareProgram(self.api.rest, f"{handle.path}/exec", handle.headers)
        try:
            doing = f"starting a program in sandbox {handle.id}"
            async with self.calls.bounded(doing, secrets=list(env.values())):
                await program.open(argv, env, timeout)
        except BaseException:
            await program.aclose()
            raise
        return program


def sandbox_id(spec: SandboxSpec) -> str:
    """Return the id of a sandbox: no other has its name and its nonce."""
    digest = hashlib.sha256(f"{spec.name}\0{spec.labels[NONCE_LABEL]}".encode()).digest()
    return b32encode(digest).decode().lower()[:_ID]


def _found(record: Mapping[str, Any], resources: Mapping[str, str]) -> Found:
    states: Mapping[str, SandboxState] = {"starting": "starting", "running": "running"}
    return Found(
        id=str(record.get("id", "")),
        labels=record.get("labels", {}),
        state=states.get(record.get("state", ""), "ended"),
        created_at=record.get("created_at"),
        expires_at=record.get("ends_at"),
        resources=resources,
    )

"""Vercel Sandbox for one account. See Vendor."""

from __future__ import annotations

import gzip
import math
import re
import tarfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from agenthost.adapter.bootstrap import archive_of
from agenthost.adapter.calls import Calls
from agenthost.adapter.cloud import Found
from agenthost.adapter.packed_labels import PackedLabels
from agenthost.adapter.provider import LifetimeLimitError
from agenthost.adapter.record import NAME_LABEL, PROVIDER_LABEL
from agenthost.adapter.rest import Authorization, RestClient
from agenthost.errors import (
    ConfigError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.providers.vercel.carrier import VercelCommand
from agenthost.providers.vercel.credentials import account_source
from agenthost.providers.vercel.errors import ROWS
from agenthost.providers.vercel.headers import settings_of
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

API = "https://vercel.com/api"
SANDBOXES = "/v2/sandboxes"
TAGS = PackedLabels(5, 256)  # what Vercel keeps; a list is filtered by one of them
_LISTED = {"limit": 50, "tags": f"{PROVIDER_LABEL}:vercel"}  # 50 is Vercel's most
_HOBBY = 45 * 60.0  # seconds of the smallest plan, where an answer does not state the limit
_LONGEST = re.compile(r"`timeout`(?:.*?(\d{5,}))?", re.DOTALL)  # milliseconds


class VercelVendor:
    """See Vendor. A handle and an id are the name of a sandbox, a dot and its session.

    Vercel's sandboxes outlive their machines, and get another session with another machine when they are
    resumed: only the session is what agenthost made.

    Args:
        token: None, for all three, is VERCEL_OIDC_TOKEN or what VERCEL_OIDC_TOKEN_FILE holds, else
            VERCEL_TOKEN; so for the next two.
        team: None is VERCEL_TEAM_ID.
        project: None is VERCEL_PROJECT_ID.
        base_url: Of the API.

    Raises:
        MissingCredentialError: There is no credential.
    """

    names_are_unique = True

    def __init__(self, token: str | None, team: str | None, project: str | None, base_url: str) -> None:
        self._account = account_source(token, team, project)
        self.api = RestClient(base_url, self._authorize)
        self.calls = Calls("Vercel", lambda: ROWS, secrets=(token or "",))

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> str:
        """Make a sandbox. See Vendor."""
        lifetime = spec.max_lifetime or DEFAULT_LIFETIME
        # A lease is the first end, which ``extend`` moves: Vercel never brings one forward.
        body = create_body(spec, min(lifetime, spec.lease or lifetime))
        body.update(settings_of(spec), tags=TAGS.pack(labels))
        try:
            return await self.make(f"making sandbox {spec.name}", body, [one.secret for one in spec.inject])
        except ConfigError as error:
            if (found := _LONGEST.search(str(error))) is None:
                raise
            longest = float(found[1]) / 1000 if found[1] else _HOBBY
            raise LifetimeLimitError.of_plan("Vercel", lifetime, longest) from error

    async def make(self, doing: str, body: Mapping[str, Any], secrets: Sequence[str] = ()) -> str:
        """Make a sandbox and return its handle; it may be pending. Only what was refused is sent again."""
        given = {**body, "projectId": self.project}
        made = await self.calls.when_free(
            doing, lambda: self.api.ask("POST", "/v3/sandboxes", body=given), secrets=secrets
        )
        return _id_of(made["sandbox"])

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield sandboxes, stopped ones too, newest first. See Vendor."""
        if NAME_LABEL in labels:  # a list may lag behind
            with suppress(SandboxNotFoundError):
                found = _found(await self._get(labels[NAME_LABEL]))
                if labels.items() <= found.labels.items():
                    yield found
            return
        cursor: str | None = None
        while True:
            query = {**_LISTED, "project": self.project, "cursor": cursor}
            page = await self.ask("listing the sandboxes", "GET", SANDBOXES, query=query)
            for one in map(_found, page["sandboxes"]):
                if labels.items() <= one.labels.items():
                    yield one
            if not (cursor := page["pagination"]["next"]):
                return

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one sandbox. See Vendor. One that has another session by now is not the same."""
        name, _, session = sandbox_id.partition(".")
        found = await self._get(name)
        if found["currentSessionId"] != session:
            raise SandboxNotFoundError(f"Vercel has no sandbox {sandbox_id}")
        return _found(found)

    async def connect(self, found: Found) -> str:
        """Return the handle, which needs no call. See Vendor."""
        return found.id

    def id_of(self, handle: str) -> str:
        """Return the id."""
        return handle

    async def kill(self, sandbox_id: str) -> None:
        """Stop the session and remove its sandbox. See Vendor."""
        doing, path = f"ending sandbox {sandbox_id}", self.session_path(sandbox_id, "stop")
        with suppress(SandboxNotFoundError, SandboxGoneError):
            await self.ask(doing, "POST", path, body={})
        with suppress(SandboxNotFoundError):
            await self.look_up(sandbox_id)  # another session is not agenthost's to remove
            await self.remove(sandbox_id.partition(".")[0])

    async def remove(self, name: str, **query: str) -> None:
        """Remove a sandbox by its name. SandboxNotFoundError: there is none."""
        query["projectId"] = self.project
        await self.ask(f"removing sandbox {name}", "DELETE", f"{SANDBOXES}/{name}", query=query)

    async def put_files(self, handle: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files. See Vendor."""
        entry = tarfile.TarInfo(directory[1:])
        entry.type, entry.mode = tarfile.DIRTYPE, 0o700
        inside = {f"{directory[1:]}/{name}": data for name, data in files.items()}
        body = gzip.compress(entry.tobuf() + archive_of(inside), mtime=0)
        sent = {"content-type": "application/gzip", "x-cwd": "/"}
        async with self.calls.bounded(f"writing files into sandbox {handle}"):
            await self.api.ask("POST", self.session_path(handle, "fs/write"), body=body, headers=sent)

    async def run(self, handle: str, argv: Sequence[str], *, env: Mapping[str, str]) -> VercelCommand:
        """Start a program. See Vendor."""
        path = self.session_path(handle, "cmd")
        body = {"command": argv[0], "args": list(argv[1:]), "env": dict(env), "attachStdin": True}
        async with self.calls.bounded(f"starting a program in sandbox {handle}", within=30):
            made = (await self.api.ask("POST", path, body=body))["command"]
            command = VercelCommand(self.api, self.calls, f"{path}/{made['id']}")
            await command.open()
            return command

    async def aclose(self) -> None:
        """Close the connections."""
        await self.api.aclose()

    def session_path(self, handle: str, call: str) -> str:
        """Return the path of a call about a session."""
        return f"{SANDBOXES}/sessions/{handle.partition('.')[2]}/{call}"

    @property
    def project(self) -> str:
        """The project that everything belongs to."""
        return self._account()[2]

    def _authorize(self) -> Authorization:
        token, team, _ = self._account()
        return {"authorization": f"Bearer {token}"}, {"teamId": team}

    async def _get(self, name: str) -> Mapping[str, Any]:
        # A look never starts another machine of a sandbox that has stopped.
        query = {"projectId": self.project, "resume": "false"}
        answer = await self.ask(f"looking up sandbox {name}", "GET", f"{SANDBOXES}/{name}", query=query)
        return cast("Mapping[str, Any]", answer["sandbox"])

    async def ask(self, doing: str, method: str, path: str, **given: Any) -> Any:
        """Return the answer to a call that does no harm when it is made twice. See RestClient.ask."""
        return await self.calls.repeat(doing, lambda: self.api.ask(method, path, **given))


def create_body(spec: SandboxSpec, seconds: float) -> dict[str, Any]:
    """Return what a create says of the machine: two cores unless more are asked for, 2 GiB for each."""
    cores = max(2, math.ceil(spec.cpu or 0), math.ceil((spec.memory_mib or 0) / 2048))
    cores += cores % 2
    is_snapshot = (spec.image or "").startswith("snap_")  # as the ids of snapshots do
    source = (
        {"source": {"type": "snapshot", "snapshotId": spec.image}} if is_snapshot else {"image": spec.image}
    )
    size = {"vcpus": cores, "memory": cores * 2048}
    # Vercel's default keeps, and bills, a snapshot of every sandbox that stops.
    kept = {"persistent": False, "timeout": math.ceil(seconds * 1000)}
    return {"name": spec.name, "resources": size, **kept, **source}


def _id_of(sandbox: Mapping[str, Any]) -> str:
    return f"{sandbox['name']}.{sandbox['currentSessionId']}"


def _found(sandbox: Mapping[str, Any]) -> Found:
    return Found(
        id=_id_of(sandbox),
        labels=TAGS.unpack(sandbox["name"], sandbox.get("tags", {})),
        state="running" if sandbox["status"] in ("pending", "running") else "ended",
        created_at=sandbox["createdAt"] / 1000,
        expires_at=sandbox.get("expiresAt", 0) / 1000 or None,
        resources={name: str(sandbox.get(name, "?")) for name in ("status", "vcpus", "memory", "region")},
    )

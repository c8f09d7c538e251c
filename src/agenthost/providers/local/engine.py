"""Make, find and list local sandboxes. What is common to the isolated and the unisolated provider."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
import anyio.lowlevel

from agenthost.errors import ProviderError, SandboxNotFoundError
from agenthost.providers.local import state
from agenthost.providers.local.backend import Connect, LocalBackend, to_info
from agenthost.providers.local.ending import end, remove_ended, take_leftovers
from agenthost.providers.local.entry import Entry, make_entry, remove_unfinished
from agenthost.providers.local.keeper.job import Job
from agenthost.providers.local.leases import boot_seconds, write_lease
from agenthost.providers.local.limits import LimitPlan
from agenthost.providers.local.start import Report, start_keeper
from agenthost.sandbox import Boot, SandboxInfo
from agenthost.spec import ResourceLimits, SandboxSpec
from agenthost.statedir import note_state_directory, state_directory
from agenthost.threads import in_thread

_log = logging.getLogger("agenthost.local")

# Seconds that a guest has to end by itself before everything is killed.
GRACE_SECONDS = 2.0
# When memory runs out, the kernel kills sandboxes before the host's own programs, which have 0. What a guest
# starts has more (agenthost.guest.oom).
_OOM_SCORE_ADJ = 500
_COUNT_SECONDS = 5.0  # from one count of files to the next, where the spec bounds them
_CLEANUP_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How the first program of a sandbox is started; the rest of a Job is the same for all."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    data: dict[int, bytes]
    stage: list[str]
    stage_at: str
    tree: Literal["namespace", "subreaper"]


class Engine:
    """The sandboxes of one provider in one state directory."""

    def __init__(self, provider: str, *, root: str | None, connect: Connect) -> None:
        self._provider = provider
        self._root = root
        self._connect = connect
        self._backends: list[LocalBackend] = []

    def directory(self) -> str:
        """Return where this provider's sandboxes are, made if need be."""
        root = os.path.realpath(state_directory() if self._root is None else self._root)
        note_state_directory(root)
        return state.provider_directory(root, self._provider)

    def workdir_of(self, spec: SandboxSpec) -> str | None:
        """Return the working directory that the sandbox of this name was made with, if there is one."""
        record = state.read_record(os.path.join(self.directory(), name_of(spec)))
        return None if record is None or not record.workdir else record.workdir

    def prepare(self, spec: SandboxSpec, boot: Boot, *, drop: bool) -> Entry:
        """Make the sandbox's directory. It is locked by us."""
        return make_entry(self.directory(), name_of(spec), boot.files, drop=drop)

    def backend(self, directory: str, record: state.Record, report: Report | None) -> LocalBackend:
        """Return the host's side of a sandbox."""
        backend = LocalBackend(directory, record, connect=self._connect, report=report)
        self._backends = [known for known in self._backends if known.listening]
        self._backends.append(backend)
        return backend

    async def reach(self, sandbox_id: str) -> LocalBackend:
        """Return a living sandbox.

        Raises:
            SandboxNotFoundError: There is none of this name.
        """
        directory = state.entry(self.directory(), sandbox_id)
        record = None if directory is None else state.read_record(directory)
        if directory is None or record is None or not state.is_alive(directory):
            raise SandboxNotFoundError(f"no {self._provider} sandbox has the id {sandbox_id!r}")
        await anyio.lowlevel.checkpoint()
        return self.backend(directory, record, None)

    async def list(self, labels: Mapping[str, str] | None) -> AsyncIterator[SandboxInfo]:
        """Yield the living sandboxes, newest first, and remove what dead keepers left.

        Being cancelled does not wait for that: what a sandbox has left may be millions of files.
        """
        found: list[SandboxInfo] = []
        await in_thread(partial(remove_unfinished, self.directory()), abandon=True)
        for directory in await in_thread(partial(state.ended_entries, self.directory()), abandon=True):
            await _sweep(partial(remove_ended, directory))
        for directory in state.entries(self.directory()):
            if not state.is_alive(directory):
                await _sweep(partial(_take_and_remove, directory))
                continue
            record = state.read_record(directory)
            if record is None or record.kind != "sandbox":
                continue
            if all(record.labels.get(key) == value for key, value in (labels or {}).items()):
                found.append(to_info(record, "running"))
        found.sort(key=lambda info: info.created_at or 0.0, reverse=True)
        for info in found:
            yield info

    def close(self) -> None:
        """Stop listening to keepers. Ends no sandbox."""
        for backend in self._backends:
            backend.close()
        self._backends.clear()


def _odd_signals() -> list[int]:
    """Return what a sandbox must not inherit of this process: a shell's background job ignores SIGINT."""
    # Python ignores two by itself. A keeper that ignores SIGCHLD learns of no end.
    own = {signal.SIGPIPE, signal.SIGXFSZ}
    ignored = {one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN} - own
    # Plain numbers: marshal takes no enumerations.
    return sorted(int(number) for number in ignored | {*signal.pthread_sigmask(signal.SIG_BLOCK, ())})


def _take_and_remove(directory: str) -> None:
    gone = take_leftovers(directory)
    if gone:
        remove_ended(gone)


async def _sweep(remove: Callable[[], None]) -> None:
    try:
        await in_thread(remove, abandon=True)
    except ProviderError as error:
        # What cannot be removed must not hide the sandboxes that live.
        _log.warning("%s", error)


def _disk(asked: ResourceLimits, caps: ResourceLimits) -> tuple[int | None, int | None, float | None]:
    is_asked = asked.disk_mib is not None or asked.inodes is not None
    room = None if caps.disk_mib is None else caps.disk_mib << 20
    return room, caps.inodes, _COUNT_SECONDS if is_asked else None


def name_of(spec: SandboxSpec) -> str:
    """Return the name that GuestProvider has filled in."""
    assert spec.name is not None
    return spec.name


async def launch(
    engine: Engine,
    entry: Entry,
    spec: SandboxSpec,
    start: Start,
    *,
    kind: str,
    isolation: str,
    resources: Mapping[str, str],
    limits: LimitPlan,
) -> LocalBackend:
    """Start an entry's keeper. When it fails or is cancelled, nothing is left."""
    name, lifetime = os.path.basename(entry.directory), spec.max_lifetime or 3600.0
    now = time.time()
    fields = {
        "name": name,
        "provider": os.path.basename(os.path.dirname(entry.directory)),
        "kind": kind,
        "labels": dict(spec.labels),
        "created_at": now,
        "expires_at": now + lifetime,
        "lives_until": boot_seconds() + lifetime,
        "workdir": spec.workdir or "",
        "isolation": isolation,
        "resources": dict(resources),
        "cgroups": [path for path, _ in limits.groups],
        "socket": os.fstat(entry.listen_fd).st_ino,
    }
    job: Job = {
        "directory": entry.directory,
        "state": json.dumps(fields),
        "listen_fd": -1,
        "report_fd": -1,
        "held_fds": [],
        "lifetime": lifetime,
        "leased": spec.lease is not None,
        "grace": GRACE_SECONDS,
        "signals": _odd_signals(),
        "argv": start.argv,
        "env": start.env,
        "cwd": start.cwd,
        "data": start.data,
        "stage": start.stage,
        "stage_at": start.stage_at,
        "uid": entry.uid,
        "cgroups": list(limits.groups),
        "rlimits": list(limits.rlimits),
        "disk": _disk(spec.limits, limits.caps),
        "oom_score_adj": _OOM_SCORE_ADJ,
        "tree": start.tree,
    }
    directory = entry.directory
    try:
        if spec.lease is not None:
            write_lease(directory, spec.lease)
        report = await start_keeper(entry, job)
        try:
            record = state.read_record(directory)
            if record is None:
                # It has ended again already; its last words tell why.
                record = state.record_of({"keeper": os.getpid(), **fields})
            await anyio.lowlevel.checkpoint()
        except BaseException:
            report.close()
            raise
    except BaseException:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEANUP_SECONDS):
            await end(directory)
        raise
    return engine.backend(directory, record, report)

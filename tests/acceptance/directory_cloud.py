"""The SDK of a third party's cloud, which knows nothing of agenthost. Machines are directories here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.abc


class CloudError(Exception):
    """The cloud refused a call."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


@dataclass(frozen=True)
class Machine:
    """A machine as the cloud describes it. Times are seconds since the epoch."""

    id: str
    home: str
    tags: Mapping[str, str]
    created: float
    end: float


class Client:
    """An account of the cloud."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    async def create(self, name: str, tags: Mapping[str, str], seconds: float) -> Machine:
        home, now = self.root / name, time.time()
        try:
            home.mkdir(mode=0o700)
        except FileExistsError:
            raise CloudError(409, f"there is a machine {name}") from None
        machine = Machine(name, str(home), dict(tags), now, now + seconds)
        (home / ".machine.new").write_text(json.dumps(asdict(machine)))
        (home / ".machine.new").rename(home / ".machine")
        return machine

    async def machines(self) -> list[Machine]:
        found = [Machine(**json.loads(file.read_text())) for file in self.root.glob("*/.machine")]
        for machine in found:
            if machine.end < time.time():
                await self.delete(machine.id)
        living = [machine for machine in found if machine.end >= time.time()]
        return sorted(living, key=lambda machine: machine.created, reverse=True)

    async def get(self, machine_id: str) -> Machine:
        for machine in await self.machines():
            if machine.id == machine_id:
                return machine
        raise CloudError(404, f"there is no machine {machine_id}")

    async def delete(self, machine_id: str) -> None:
        home = self.root / machine_id
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            for pid in _programs(home):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with anyio.move_on_after(seconds):
                while _programs(home):  # noqa: ASYNC110 - the kernel tells only a parent
                    await anyio.sleep(0.02)
        shutil.rmtree(home, ignore_errors=True)

    async def upload(self, path: str, data: bytes) -> None:
        file = anyio.Path(path)
        await file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        await file.write_bytes(data)

    async def start(self, machine: Machine, argv: Sequence[str], env: Mapping[str, str]) -> Program:
        own = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": machine.home, **env}
        log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the program's handle
        try:
            process = await anyio.open_process(
                argv, cwd=machine.home, env=own, stderr=log, start_new_session=True
            )
        except BaseException:
            log.close()
            raise
        return Program(process, log)


@dataclass(frozen=True)
class Program:
    """A program that runs in a machine, and what it has printed on stderr."""

    process: anyio.abc.Process
    log: BinaryIO


def _programs(home: Path) -> list[int]:
    """Return what runs in a machine: what names its directory, or works there."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            cwd = f"{os.readlink(process / 'cwd')}/"
            if cwd.startswith(f"{home}/") or f"{home}/".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found

"""Snapshots: images that sandboxes are made of, and the builds that make them."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.image_build import ImageBuild
from agenthost.testing.emulators.daytona.about import REFUSED
from agenthost.testing.emulators.daytona.api import Refusal
from agenthost.testing.emulators.daytona.boxes import iso

SIZES = {
    "daytona-small": (1, 1, 3),
    "daytona-medium": (2, 4, 8),
    "daytona-large": (4, 8, 10),
}
_IGNORED = ("FROM", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "ENV")
_PEOPLE = ("useradd", "groupadd")  # a machine has one user, who is there already


@dataclass(slots=True)
class Snapshot:
    """One snapshot.

    Attributes:
        size: ``cpu``, ``memory`` and ``disk``; the last two in GiB.
        site: What it has at /opt/agenthost/site.
        log: What its build printed.
    """

    name: str
    size: Mapping[str, int]
    created_at: float
    site: Path | None = None
    state: str = "active"
    reason: str | None = None
    general: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    log: list[str] = field(default_factory=list[str])
    changed: anyio.Event = field(default_factory=anyio.Event)

    def as_json(self) -> dict[str, Any]:
        """Return it as Daytona describes it."""
        at = iso(self.created_at)
        return {
            "id": self.id,
            "general": self.general,
            "name": self.name,
            "state": self.state,
            "size": 1,
            "entrypoint": ["sleep", "infinity"],
            "cpu": self.size["cpu"],
            "gpu": 0,
            "mem": self.size["memory"],
            "disk": self.size["disk"],
            "errorReason": self.reason,
            "createdAt": at,
            "updatedAt": at,
            "lastUsedAt": None,
            "sourceSandboxId": None,
        }

    def say(self, line: str) -> None:
        """Keep a line that its build printed."""
        self.log.append(line)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class Snapshots:
    """All snapshots of the organization.

    Args:
        directory: Where they are built.
        tasks: Builds outlive the calls that start them.
        clock: The emulator's time.
        env: Of the steps: where an index of packages is, for instance.

    Attributes:
        all: By their names.
    """

    def __init__(self, directory: Path, tasks: BackgroundTasks, clock: Clock, env: Mapping[str, str]) -> None:
        self._directory, self._tasks, self._clock = directory, tasks, clock
        self._env = dict(env)
        self.all: dict[str, Snapshot] = {}
        for name, size in SIZES.items():
            self.add(name, None, size).general = True

    def add(self, name: str, site: Path | None, size: tuple[int, int, int] = (2, 4, 8)) -> Snapshot:
        """Have a snapshot that was built before."""
        given: dict[str, int] = dict(zip(("cpu", "memory", "disk"), size, strict=True))
        self.all[name] = Snapshot(name, given, self._clock.now(), site)
        return self.all[name]

    def find(self, name: str) -> Snapshot:
        """Return a snapshot by its name or its id. Raises Refusal."""
        by_id = (one for one in self.all.values() if one.id == name)
        found = self.all.get(name) or next(by_id, None)
        if found is None:
            raise Refusal(404, f"Snapshot {name} not found", "NOT_FOUND")
        return found

    def usable(self, name: str) -> Snapshot:
        """Return a snapshot that sandboxes can be made of. Raises Refusal."""
        found = self.all.get(name)
        if found is None or found.state != "active":
            raise Refusal(
                400,
                f"Snapshot {name} not found. Did you add it through the Daytona Dashboard?",
                "BAD_REQUEST",
            )
        return found

    def build(self, name: str, dockerfile: str, size: Mapping[str, int]) -> Snapshot:
        """Begin to build a snapshot. Raises Refusal."""
        if name in self.all:
            raise Refusal(409, f"Snapshot with name {name} already exists", "CONFLICT")
        steps = [_step(line) for line in dockerfile.splitlines() if line.strip()]
        image = ImageBuild(self._directory / uuid.uuid4().hex, self._env)
        made = Snapshot(name, dict(size), self._clock.now(), image.site, "building")
        self.all[name] = made
        self._tasks.start_soon(self._run, made, image, [step for step in steps if step])
        return made

    async def _run(self, made: Snapshot, image: ImageBuild, steps: list[list[str]]) -> None:
        for number, step in enumerate(steps, 1):
            made.say(f"Step {number}/{len(steps)} : RUN {shlex.join(step)[:60]}")
            code = await image.run(step, made.say)
            if self.all.get(made.name) is not made:
                return  # it was removed meanwhile
            if code != 0:
                made.state, made.reason = "build_failed", f"step {number} failed with exit code {code}"
                break
        else:
            made.state = "active"
        made.say("")


def _step(line: str) -> list[str]:
    """Return the program that an instruction runs; nothing for one that changes nothing here."""
    instruction, _, rest = line.strip().partition(" ")
    if instruction in _IGNORED or any(word in rest for word in _PEOPLE):
        return []
    if instruction != "RUN":
        raise Refusal(400, f"{REFUSED['instruction']} {instruction}", "BAD_REQUEST")
    return [str(word) for word in json.loads(rest)] if rest.startswith("[") else ["sh", "-c", rest]

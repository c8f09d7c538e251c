"""Templates: E2B's own, and those that are built by the steps that a client sends, really."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.image_build import ImageBuild

if TYPE_CHECKING:
    from agenthost.testing.emulators.e2b.boxes import E2BBox

TEAM = "emulated"  # whose templates may be called with it and a slash before their names
_SIZES = ("cpuCount", "memoryMB", "minFreeDiskMb")
_LOGS = 100  # lines of a build that come in one answer at most


def stamp(seconds: float) -> str:
    """Return a time as E2B writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class Build:
    """One build of a template.

    Attributes:
        image: Where it is built; None is one that was a sandbox.
        site: What it brings to /opt/agenthost/site.
        files: What a sandbox had, as an archive.
    """

    id: str
    image: ImageBuild | None = None
    site: Path | None = None
    files: bytes | None = None
    status: str = "waiting"
    reason: str = ""
    logs: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def say(self, line: str) -> None:
        """Keep a line for who asks."""
        self.logs.append({"timestamp": stamp(time.time()), "level": "info", "message": line})


@dataclass(slots=True)
class Template:
    """One template. Its name is taken from the moment it is asked for, built or not.

    Attributes:
        tags: Ids of builds.
        site: What it brings to /opt/agenthost/site, where it was not built here.
    """

    id: str
    name: str
    cpu: int
    memory_mib: int
    builds: dict[str, Build] = field(default_factory=dict[str, Build])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    made_at: float = field(default_factory=time.time)
    site: Path | None = None


@dataclass(frozen=True, slots=True)
class Usable:
    """What sandboxes are made of: a template, with its site and its files. See Build."""

    template: Template
    site: Path | None
    files: bytes | None = None


class Templates:
    """All that there are.

    Args:
        directory: Where they are built.
        tasks: Builds outlive the requests that start them.
        env: Of the steps: where an index of packages is, for instance.
    """

    def __init__(self, directory: Path, tasks: BackgroundTasks, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._tasks = tasks
        self._env = env
        self.asked: dict[str, Any] = {}  # the last sizes that somebody asked for
        self.all: dict[str, Template] = {"base": Template("rki5dems9wqfm4r03t7g", "base", 2, 512)}

    def add(self, image: str, site: Path) -> None:
        """Have one that was built before."""
        name, _, tag = image.partition(":")
        template = Template(secrets.token_hex(10), name, 2, 2048, site=site)
        template.tags = {tag or "default": str(uuid.uuid4())}
        self.all[name] = template

    def find(self, name: str) -> Template | None:
        """Return one by its name, with or without its team and a tag, or by its id."""
        plain = name.partition(":")[0].removeprefix(f"{TEAM}/")
        return self.all.get(plain) or next((one for one in self.all.values() if one.id == plain), None)

    def is_fixed(self, name: str) -> bool:
        """Whether a template of this name is there that was not built here."""
        return name in self.all and not self.all[name].builds

    def keep(self, box: E2BBox, files: bytes, name: tuple[str, str] | None) -> Template:
        """Make a sandbox's files a template, or the build of one that is there.

        Args:
            box: The sandbox.
            files: As an archive.
            name: An alias and a tag.
        """
        new_id = secrets.token_hex(10)
        alias, tag = name or (new_id, "default")
        template = self.all.setdefault(alias, Template(new_id, alias, box.cpu, box.memory_mib))
        build = Build(str(uuid.uuid4()), site=box.site, files=files, status="ready")
        template.builds[build.id] = build
        template.tags[tag] = build.id
        return template

    def usable(self, name: str) -> Usable | None:
        """Return what sandboxes can be made of; None: there is no such template, or none yet."""
        found = self.find(name)
        if found is None:
            return None
        tag = name.partition(":")[2] or "default"
        if not found.builds:
            return Usable(found, found.site) if tag in (found.tags or {"default"}) else None
        build = found.builds.get(found.tags.get(tag, ""))
        if build is None or build.status != "ready":
            return None
        return Usable(found, build.site, build.files)

    def request(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Take a name for a build, and return both."""
        name, _, tag = str(asked["name"]).partition(":")
        self.asked = {key: value for key, value in asked.items() if key in _SIZES}
        template = self.all.get(name)
        if template is None:
            template = Template(secrets.token_hex(10), name, 2, 512)
            self.all[name] = template
        template.cpu = asked.get("cpuCount", template.cpu)
        template.memory_mib = asked.get("memoryMB", template.memory_mib)
        image = ImageBuild(self._directory / secrets.token_hex(6), self._env)
        build = Build(str(uuid.uuid4()), image, image.site)
        template.builds[build.id] = build
        template.tags[tag or "default"] = build.id
        told = {"templateID": template.id, "buildID": build.id, "public": False}
        return {**told, "names": [name], "aliases": [name], "tags": [tag or "default"]}

    def start(self, template: Template, build: Build, asked: Mapping[str, Any]) -> None:
        """Begin to build."""
        assert build.image is not None
        build.status = "building"
        self._tasks.start_soon(self._run, template, build, build.image, dict(asked))

    def status(self, template: Template, build: Build, offset: int) -> dict[str, Any]:
        """Return how far a build is, with the lines from an offset."""
        entries = build.logs[offset : offset + _LOGS]
        told: dict[str, Any] = {"templateID": template.id, "buildID": build.id, "status": build.status}
        told.update(logs=[entry["message"] for entry in entries], logEntries=entries)
        if build.reason:
            told["reason"] = {"message": build.reason}
        return told

    async def _run(self, template: Template, build: Build, image: ImageBuild, asked: dict[str, Any]) -> None:
        base = asked.get("fromTemplate")
        if base is not None:
            below = self.usable(str(base))
            if below is None:
                build.status, build.reason = "error", f"template {base!r} was not found"
                return
            build.files = below.files
        for number, step in enumerate(asked.get("steps") or [], 1):
            if step["type"] != "RUN":
                build.status, build.reason = "error", f"this emulator does not know the step {step['type']}"
                return
            build.say(f"[builder {number}] RUN {step['args'][0][:60]}")
            code = await image.run(["bash", "-c", step["args"][0]], build.say)
            if template.builds.get(build.id) is not build:
                return  # it was removed meanwhile
            if code != 0:
                build.status, build.reason = "error", f"step {number} failed with exit code {code}"
                return
        build.status = "ready"

"""Images: what they are built of is their name, and their steps are really run."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agenthost.testing.emulators.base.archive import pack as pack_files
from agenthost.testing.emulators.base.archive import unpack as unpack_files
from agenthost.testing.emulators.base.image_build import ImageBuild
from agenthost.testing.emulators.base.machines import Machine

_KEPT = ("/workspace", "/root")  # what a snapshot has: machines keep nothing else


@dataclass(slots=True)
class Image:
    """An image.

    Attributes:
        commands: What it is made of on top of ``base``, as the client said.
        steps: What of that has to be run.
        directory: What machines see at /opt/agenthost; None is nothing.
        code: The exit code of the step that failed; 0 when it is built; None before.
        log: What the steps printed.
        snapshot: A sandbox's files, as an archive.
    """

    id: str
    commands: list[str] = field(default_factory=list[str])
    steps: list[list[str]] = field(default_factory=list[list[str]])
    base: Image | None = None
    directory: Path | None = None
    code: int | None = None
    log: list[str] = field(default_factory=list[str])
    snapshot: bytes | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def site(self) -> Path | None:
        """What the image brings to /opt/agenthost/site."""
        return None if self.directory is None else self.directory / "site"

    async def restore(self, machine: Machine) -> None:
        """Put a snapshot's files into a machine."""
        if self.snapshot is not None:
            await unpack_files(machine, self.snapshot)


class ImageStore:
    """All images of an emulator.

    Args:
        directory: Where they are kept. What another emulator has kept there is found.
        env: Added to the environment of every step: where packages are found, for instance.
    """

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.by_name: dict[str, str] = {}
        self.built: list[str] = []
        self._directory = directory
        self._env = dict(env)
        self._by_id: dict[str, Image] = {}
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
        for path in directory.glob("im-*.json"):
            told = json.loads(path.read_text())
            image = self._by_id[path.stem] = Image(path.stem, code=0)
            if told["layer"] is not None:
                image.directory = directory / told["layer"]
            self.by_name.update(dict.fromkeys(told["names"], image.id))

    def find(self, image_id: str) -> Image | None:
        """Return an image, built or not."""
        return self._by_id.get(image_id)

    def get(self, image_id: str) -> Image:
        """Return an image that is built."""
        image = self._by_id.get(image_id)
        if image is None or image.code != 0:
            raise OSError(f"there is no image {image_id}")
        return image

    def define(self, content: Any, *, force: bool) -> Image:
        """Return the image of a definition, built or not. One that failed is tried again."""
        key: bytes = content.SerializeToString(deterministic=True)
        known = self._by_id.get(_name(key))
        if known is not None and not force and not known.code:
            return known
        image = self._by_id[_name(key)] = Image(_name(key))
        bases = [self._by_id[one.image_id] for one in content.base_images]
        image.base = bases[0] if bases else None
        image.commands = list(content.dockerfile_commands)
        image.steps = _steps(image.commands, is_base=not bases)
        return image

    def keep(self, origin: Image, snapshot: bytes) -> Image:
        """Return a new image: another one, with a sandbox's files."""
        image = Image(_name(secrets.token_bytes(16)), code=0, snapshot=snapshot)
        image.directory = origin.directory
        self._by_id[image.id] = image
        return image

    def publish(self, image: Image, name: str) -> None:
        """Give an image a name; another one that has it loses it."""
        self.by_name[name] = image.id
        self._note(image)

    async def build(self, image: Image) -> None:
        """Build it, once."""
        async with image.lock:
            if image.code is not None:
                return
            if image.base is not None:
                await self.build(image.base)
                image.snapshot = image.base.snapshot
                image.directory = image.base.directory
            if image.steps:
                image.directory = await self._layer(image)
            self.built.append(image.id)
            image.code = await self._run(image, image.log.append)
            if image.steps and image.code != 0 and image.directory is not None:
                await anyio.to_thread.run_sync(partial(shutil.rmtree, image.directory, ignore_errors=True))
            self._note(image)

    async def _layer(self, image: Image) -> Path:
        # A directory of its own each time: one that was made before may be in use by a sandbox.
        target = self._directory / f"{image.id}-{secrets.token_hex(4)}"
        below = image.directory

        def copy() -> None:
            if below is None:
                target.mkdir(parents=True)
            else:  # a step that writes makes new files: what lies below is not changed by links to it
                shutil.copytree(below, target, symlinks=True, copy_function=os.link)
            target.chmod(0o755)

        await anyio.to_thread.run_sync(copy)
        return target

    async def _run(self, image: Image, on_line: Callable[[str], object]) -> int:
        if image.base is None and (failing := _without_python(image.commands)) is not None:
            on_line(f"=> {failing}")
            on_line("/bin/sh: 1: python: not found")
            return 127
        if image.directory is None or not image.steps:
            return 0
        build = ImageBuild(image.directory, self._env)
        for step in image.steps:
            on_line(f"=> RUN {step[-1]}")
            code = await build.run(step, on_line)
            if code != 0:
                return code
        return 0

    def _note(self, image: Image) -> None:
        if image.code != 0 or image.snapshot is not None:
            return
        layer = None if image.directory is None else image.directory.name
        names = [name for name, image_id in self.by_name.items() if image_id == image.id]
        text = json.dumps({"layer": layer, "names": names})
        (self._directory / f"{image.id}.json").write_text(text)


async def pack(machine: Machine) -> bytes:
    """Return a machine's files as an archive."""
    return await pack_files(machine, _KEPT)


def _name(content: bytes) -> str:
    return f"im-{hashlib.sha256(content).hexdigest()[:22]}"


def _without_python(commands: list[str]) -> str | None:
    """Return the step that fails for want of Python: only an image that says so by its name has one."""
    origin = next((one for one in commands if one.startswith("FROM ")), "")
    if "python" in origin or any(one.startswith("COPY /python/") for one in commands):
        return None
    return next((one for one in commands if one.startswith("RUN python ")), None)


def _steps(commands: list[str], *, is_base: bool) -> list[list[str]]:
    """Return what a definition has to be run. What makes a base of Modal's is taken for done."""
    if is_base:
        return []
    return [["/bin/sh", "-c", one[4:]] for one in commands if one.startswith("RUN ")]

"""Sandboxes whose files are wrong in one thing."""

from __future__ import annotations

import errno
import os
from typing import Any

import anyio.lowlevel
from conformance.wrapping import WrappedProvider, WrappedSandbox, wrong

from agenthost import Sandbox


@wrong("3.1")
class TakesFilesForText(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data.replace(b"\r\n", b"\n") if len(data) < 10 else data, mode=mode)


@wrong("3.2")
class CutsLargeFiles(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data[: 32 * 1024 * 1024], mode=mode)


@wrong("3.3")
class MakesOnlyTheFirstParents(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        if not os.path.isabs(path) and str(path).count("/") > 2:
            raise FileNotFoundError(2, "no such directory", path)
        await self.inner.write_file(path, data, mode=mode)


@wrong("3.4")
class IgnoresTheMode(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data, mode=0o644 & mode)


@wrong("3.5")
class ReadsWithoutAName(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        try:
            return await self.inner.read_file(path, **options)
        except OSError as error:
            if error.errno != errno.EFBIG:  # which has a check of its own
                error.filename = None
            raise


@wrong("3.6")
class WritesWithoutAName(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        try:
            await self.inner.write_file(path, data, mode=mode)
        except OSError as error:
            error.filename = None
            raise


@wrong("3.7")
class WritesInPlace(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data[:10], mode=mode)
        await self.inner.write_file(path, data, mode=mode)


@wrong("3.8")
class LeavesTheWorkdir(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        return await self.inner.read_file(self._absolute(path), **options)

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(self._absolute(path), data, mode=mode)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.workdir, path)) if ".." in str(path) else path


@wrong("3.9")
class KnowsNoNewlines(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path.replace("\n", "?"), data, mode=mode)


@wrong("3.9")
class SwapsHalvesOfCharacters(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        return await self.inner.read_file(path.encode("utf-8", "replace").decode(), **options)

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path.encode("utf-8", "replace").decode(), data, mode=mode)


@wrong("3.9")
class TakesPathsOfTheHost(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(os.fspath(path), data, mode=mode)


@wrong("3.10")
class WritesThroughLinks(WrappedSandbox):
    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        if path == "link":
            path = (await self.inner.exec(["readlink", "-f", "--", path])).stdout.decode().strip()
        await self.inner.write_file(path, data, mode=mode)


@wrong("3.11")
class ReadsWhatWasWritten(WrappedSandbox):
    def __init__(self, inner: Sandbox, provider: WrappedProvider) -> None:
        super().__init__(inner, provider)
        self.written: dict[str, bytes] = {}

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data, mode=mode)
        self.written[path] = data

    async def read_file(self, path: str, **options: Any) -> bytes:
        data = await self.inner.read_file(path, **options)
        return self.written.get(path, data)


@wrong("3.12")
class MixesFiles(WrappedSandbox):
    data = b""

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        self.data = data
        await anyio.lowlevel.checkpoint()
        await self.inner.write_file(path, self.data, mode=mode)


@wrong("3.13")
class ReadsWithoutABound(WrappedSandbox):
    async def read_file(self, path: str, **_options: Any) -> bytes:
        return await self.inner.read_file(path)

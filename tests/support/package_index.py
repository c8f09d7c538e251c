"""A package index on loopback, with what this Python has: what a machine with a network installs from."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.run_directory import RunDirectory
from support.wheelhouse import fill_wheelhouse

from agenthost.testing.loopback import Exchange, LoopbackServer


class PackageIndex:
    """Serves a directory of wheels by the simple repository API."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[dict[str, str]]:
        """Serve it; yields the environment in which pip and uv ask it and no other."""
        async with LoopbackServer(self._answer) as server:
            url = f"{server.url}/simple/"
            yield {
                "PIP_INDEX_URL": url,
                "PIP_CONFIG_FILE": "/dev/null",
                "UV_INDEX_URL": url,
                "PIP_RETRIES": "0",
            }

    async def _answer(self, exchange: Exchange) -> None:
        kind, _, name = exchange.request.target.strip("/").partition("/")
        wheels = sorted(path.name for path in self._directory.iterdir())
        if kind == "simple":
            ours = [one for one in wheels if _normal(one.partition("-")[0]) == _normal(name)]
            page = "".join(f'<a href="/wheels/{one}">{one}</a>' for one in ours)
            await exchange.reply(200 if ours else 404, page.encode(), {"content-type": "text/html"})
        elif kind == "wheels" and name in wheels:
            await exchange.start(200, {"content-type": "application/octet-stream"})
            async with await anyio.open_file(self._directory / name, "rb") as file:
                while data := await file.read(1024 * 1024):
                    await exchange.write(data)
            await exchange.finish()
        else:
            await exchange.reply(404)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="session")
def wheelhouse(run_directory: RunDirectory) -> Path:
    """Give a directory with wheels of the SDK and all that it needs."""
    return run_directory.once("wheels", partial(fill_wheelhouse, names=["claude-agent-sdk"]))


@pytest.fixture(scope="session")
def package_index(wheelhouse: Path) -> PackageIndex:
    """Give an index that has the SDK and all that it needs."""
    return PackageIndex(wheelhouse)

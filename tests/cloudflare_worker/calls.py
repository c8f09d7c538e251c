"""Calls of a Worker."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from agenthost.testing.emulators.cloudflare.worker import RunningWorker

KEY = "the-key-of-the-worker-under-test"
MARKER = "0123456789abcdef" * 2
ROOT = "/agenthost/v1"
PORT = 20_000


def sandbox_body(**more: object) -> dict[str, object]:
    """Return what a sandbox is made of, with other values where they are given."""
    return {"labels": {}, "ends_at": time.time() + 60, "marker": MARKER, "port": PORT, **more}


class Calls:
    """A client with the key of a Worker. All calls are bounded by 30 seconds."""

    def __init__(self, running: RunningWorker) -> None:
        self.running = running
        self.http = httpx.AsyncClient(
            base_url=running.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30.0
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def put(
        self, owner: str, *, seconds: float = 600.0, labels: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Make a sandbox that ends after these seconds."""
        body = sandbox_body(labels=labels or {}, ends_at=time.time() + seconds)
        return await self.http.put(f"{ROOT}/sandboxes/{owner}", json=body)

    async def made(
        self, owner: str, *, seconds: float = 600.0, labels: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Make a sandbox, and return its record."""
        answer = await self.put(owner, seconds=seconds, labels=labels)
        assert answer.status_code == 201, answer.text
        record: dict[str, Any] = answer.json()
        return record

    async def found(self, owner: str) -> dict[str, Any]:
        """Return the record of a sandbox."""
        answer = await self.http.get(f"{ROOT}/sandboxes/{owner}")
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record

    async def listed(self, *labels: str) -> dict[str, str]:
        """Return the state of all sandboxes that have these labels, newest first."""
        answer = await self.http.get(f"{ROOT}/sandboxes", params={"label": list(labels)})
        assert answer.status_code == 200, answer.text
        return {one["id"]: one["state"] for one in answer.json()["sandboxes"]}

    @asynccontextmanager
    async def running_program(
        self, owner: str, argv: Sequence[str], *, marker: str = MARKER, **more: object
    ) -> AsyncGenerator[httpx.Response]:
        """Run a program, and yield the answer while it comes."""
        body = {"argv": list(argv), **more}
        headers = {"x-agenthost-marker": marker}
        path = f"{ROOT}/sandboxes/{owner}/exec"
        async with self.http.stream("POST", path, json=body, headers=headers) as answer:
            yield answer

    async def run(self, owner: str, argv: Sequence[str], *, marker: str = MARKER, **more: object) -> Answer:
        """Run a program to its end."""
        async with self.running_program(owner, argv, marker=marker, **more) as answer:
            await answer.aread()
        return Answer(answer)

    async def write(self, owner: str, path: str, data: bytes, *, marker: str = MARKER) -> httpx.Response:
        """Write a file."""
        url, headers = f"{ROOT}/sandboxes/{owner}/files", {"x-agenthost-marker": marker}
        return await self.http.put(url, params={"path": path}, content=data, headers=headers)


class Answer:
    """What a program did, or why it did not run.

    Attributes:
        last: The last line of the answer.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in response.text.splitlines()]
        self.last = self.lines[-1]

    @property
    def code(self) -> str:
        """The code of the error."""
        code: str = self.last["error"]["code"]
        return code

    def printed(self, kind: str) -> bytes:
        """Return all that was printed into ``stdout`` or ``stderr``."""
        return b"".join(b64decode(line[kind]) for line in self.lines if kind in line)


def code_of(response: httpx.Response) -> str:
    """Return the code of an error."""
    code: str = response.json()["error"]["code"]
    return code

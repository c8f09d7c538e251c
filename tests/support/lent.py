"""A sandbox that shows nothing but the Sandbox contract, as one of another library would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from agenthost.sandbox import Capabilities, ExecResult, Process, Sandbox, SandboxInfo


class Lent:
    """Shows nothing of a sandbox but the contract."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.id = sandbox.id
        self.name = sandbox.name
        self.provider = "plain"
        self.capabilities: Capabilities = sandbox.capabilities
        self.workdir = sandbox.workdir
        self.python = "python3"

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
        user: str | None = None,
        max_output: int = 16 * 1024 * 1024,
    ) -> ExecResult:
        if argv[0] == "python3":
            argv = [self.python, *argv[1:]]
        return await self._sandbox.exec(
            argv, cwd=cwd, env=env, stdin=stdin, timeout=timeout, user=user, max_output=max_output
        )

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AbstractAsyncContextManager[Process]:
        if argv[0] == "python3":
            argv = [self.python, *argv[1:]]
        return self._sandbox.spawn(argv, cwd=cwd, env=env, user=user)

    async def read_file(self, path: str, *, max_bytes: int = 64 * 1024 * 1024) -> bytes:
        return await self._sandbox.read_file(path, max_bytes=max_bytes)

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self._sandbox.write_file(path, data, mode=mode)

    async def info(self) -> SandboxInfo:
        return await self._sandbox.info()

    async def terminate(self) -> None:
        await self._sandbox.terminate()

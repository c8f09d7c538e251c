"""A Sandbox without a Backend: plain programs in a temporary directory, which isolate nothing.

It keeps what an agent needs of the contract; docs/write-an-adapter.md names what it does not keep.
"""

import errno
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from claude_agent_sdk import ClaudeAgentOptions

from agenthost import Capabilities, ExecResult, HostedAgent, SandboxInfo
from agenthost.errors import ExecTimeoutError, FileTooLargeError, SandboxGoneError, UnsupportedError


class DirectProcess:
    def __init__(self, started: Any) -> None:
        self.pid, self._started = int(started.pid), started
        self.receive_stdout = partial(anext, started.stdout, b"")
        self.receive_stderr = partial(anext, started.stderr, b"")

    async def send_stdin(self, data: bytes) -> None:
        try:
            await self._started.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise BrokenPipeError("the program has closed its stdin") from exc

    async def close_stdin(self) -> None:
        await self._started.stdin.aclose()

    async def signal(self, signum: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    async def wait(self) -> int:
        code = await self._started.wait()
        return code if code >= 0 else 128 - code


class DirectSandbox:
    capabilities = Capabilities(isolation="none", networks=frozenset({"open"}))

    def __init__(self, workdir: str) -> None:
        self.id = self.name = self.provider = "direct"
        self.workdir, self._ended, self._running = workdir, False, set[DirectProcess]()

    def _check(self) -> None:
        if self._ended:
            raise SandboxGoneError("the sandbox has ended")

    @asynccontextmanager
    async def spawn(
        self, argv: Sequence[str], *, cwd: Any = None, env: Any = None, user: str | None = None
    ) -> AsyncGenerator[DirectProcess]:
        if user is not None:
            raise UnsupportedError("user: programs run as the user of this program")
        where, path = self._at(cwd or ""), os.path.dirname(sys.executable)
        own: dict[str, str] = {"PATH": f"{path}:/usr/bin:/bin", "HOME": self.workdir, **(env or {})}
        async with await anyio.open_process(argv, cwd=where, env=own, start_new_session=True) as started:
            self._running.add(process := DirectProcess(started))
            try:
                yield process
            finally:
                self._running.discard(process)
                await process.signal(signal.SIGKILL)
                self._check()  # what ended with the sandbox has no result

    async def exec(
        self, argv: Any, *, stdin: bytes = b"", timeout: Any = None, max_output: int = 2**24, **o: Any
    ) -> ExecResult:
        out, err = bytearray(), bytearray()

        async def collect(receive: Any, into: bytearray) -> None:
            while data := await receive():
                into += data[: max_output + 1 - len(into)]

        async with self.spawn(argv, **o) as process:
            with anyio.move_on_after(timeout):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(collect, process.receive_stdout, out)
                    tasks.start_soon(collect, process.receive_stderr, err)
                    with suppress(BrokenPipeError):
                        await process.send_stdin(stdin)
                    await process.close_stdin()
                code, cut = await process.wait(), max(len(out), len(err)) > max_output
                kept = bytes(out[:max_output]), bytes(err[:max_output])
                return ExecResult(exit_code=code, stdout=kept[0], stderr=kept[1], truncated=cut)
        raise ExecTimeoutError("it ran too long", stdout=bytes(out), stderr=bytes(err), timeout=timeout)

    def _at(self, path: str) -> anyio.Path:
        self._check()
        if os.path.normpath(path).startswith(".."):
            raise PermissionError(errno.EPERM, "it leads out of the working directory", path)
        return anyio.Path(self.workdir, path)

    async def read_file(self, path: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        if (size := (await self._at(path).stat()).st_size) > max_bytes:
            raise FileTooLargeError(errno.EFBIG, f"{size} bytes are above max_bytes={max_bytes}", path)
        return await self._at(path).read_bytes()

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        target = self._at(path)
        await target.parent.mkdir(parents=True, exist_ok=True)
        await target.write_bytes(data)
        await target.chmod(mode)

    async def info(self) -> SandboxInfo:
        state = "ended" if self._ended else "running"
        return SandboxInfo(id=self.id, name=self.name, provider=self.provider, state=state)

    async def terminate(self) -> None:
        self._ended = True
        for process in tuple(self._running):
            await process.signal(signal.SIGKILL)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        sandbox, options = DirectSandbox(directory), ClaudeAgentOptions(allowed_tools=["Bash"])
        async with HostedAgent(options, sandbox=sandbox) as agent:
            await agent.query(sys.argv[1])
            async for message in agent.receive_response():
                print(message)


if __name__ == "__main__":
    anyio.run(main)

"""A program in the sandbox, as the host holds it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from agenthost.errors import ExecTimeoutError
from agenthost.link.answers import reading
from agenthost.link.arguments import check_bytes, check_number
from agenthost.link.flows import Inflow, Outflow
from agenthost.link.pieces import Pieces
from agenthost.link.session import Session
from agenthost.sandbox import ExecResult
from agenthost.wire.frames import Data

_KILLING = 10.0  # seconds that killing a program may take before its block is left without its answer
_INLINE_INPUT = 16 * 1024  # bytes of stdin that travel with the call that starts the program


class RemoteProcess:
    """A running program with its streams."""

    def __init__(
        self, session: Session, name: str, pid: int, out: Inflow, err: Inflow, stdin: Outflow
    ) -> None:
        self._session = session
        self._name = name
        self._pid = pid
        self._out = out
        self._err = err
        self._stdin = stdin
        self._wait = session.begin("wait", {"id": name}, lasting=True)
        self._exit_code: int | None = None
        self._waiting = anyio.Lock()

    @property
    def pid(self) -> int:
        """The process id inside the sandbox."""
        return self._pid

    async def receive_stdout(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        return await self._out.receive()

    async def receive_stderr(self) -> bytes:
        """Return the next bytes of stderr, ``b""`` at the end."""
        return await self._err.receive()

    async def send_stdin(self, data: bytes) -> None:
        """Write bytes; waits while the program does not read."""
        check_bytes("data", data)
        await self._stdin.send(data)

    async def close_stdin(self) -> None:
        """End stdin."""
        self._stdin.end()

    async def signal(self, signum: int) -> None:
        """Signal the process group."""
        await self._session.call("signal", {"id": self._name, "signum": int(signum)})

    def close(self, exit_code: int | None) -> None:
        """For ``spawn``: it has ended."""
        if self._exit_code is None:
            self._exit_code = exit_code
        self._session.forget(self._wait)

    async def wait(self) -> int:
        """Return the exit code. May be called again, also after it was cancelled, and behind the block."""
        async with self._waiting:
            if self._exit_code is None:
                code = await self._session.answer(self._wait, keep=True)
                with reading("an exit code"):
                    self._exit_code = int(code)
            return self._exit_code


@asynccontextmanager
async def spawn(session: Session, params: dict[str, Any]) -> AsyncGenerator[RemoteProcess]:
    """Start a program; leaving the block kills what is left of its process group."""
    name = params["id"]
    out = err = stdin = process = None
    try:
        # Cancelled in here, the release below still finds what the guest may have started.
        answer = await session.call("start", params)
        with reading("an answer to 'start'"):
            pid = int(answer["pid"])
        out = session.inflow(f"p/{name}/out")
        err = session.inflow(f"p/{name}/err")
        stdin = session.outflow(f"p/{name}/in")
        process = RemoteProcess(session, name, pid, out, err, stdin)
        yield process
    finally:
        for inflow in (out, err):
            if inflow is not None:
                session.close_inflow(inflow)
        if stdin is not None:
            session.close_outflow(stdin)
        exit_code = await session.see_to("release", {"id": name}, within=_KILLING)
        if process is not None:
            process.close(exit_code)


class _Collector:
    """Keeps the first bytes of a stream, counts the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = Pieces()
        self.truncated = False

    def add(self, data: Data) -> None:
        if self._kept.size + len(data) > self._most:
            data = data[: self._most - self._kept.size]
            self.truncated = True
        self._kept.append(data)

    def value(self) -> bytes:
        return self._kept.joined()


async def execute(
    session: Session, params: dict[str, Any], *, stdin: bytes, timeout: float | None, max_output: int
) -> ExecResult:
    """Run a program to its end. All that can be sent before its start is known is sent at once."""
    check_bytes("stdin", stdin)
    if timeout is not None:
        check_number("timeout", timeout)
    check_number("max_output", max_output, whole=True)
    name = params["id"]
    if len(stdin) <= _INLINE_INPUT:
        params["input"] = b64encode(stdin).decode("ascii")
    start = session.begin("start", params)
    wait: int | None = None
    flows: list[Inflow] = []
    collectors = (_Collector(max_output), _Collector(max_output))
    source: Outflow | None = None
    finished = False
    try:
        with anyio.fail_after(timeout):
            # A large call travels as a stream: what it starts is not there yet when the next frame comes.
            started = session.is_large(params)
            if started:
                await session.answer(start)
            for suffix, collector in zip(("out", "err"), collectors, strict=True):
                flow = session.inflow(f"p/{name}/{suffix}")
                flow.sink = collector.add
                flows.append(flow)
            wait = session.begin("wait", {"id": name}, lasting=True)
            if not started:
                await session.answer(start)
            if len(stdin) > _INLINE_INPUT:
                source = session.outflow(f"p/{name}/in")
                source.write_now(stdin)
                source.end()
            code = await session.answer(wait)
            with reading("an exit code"):
                exit_code = int(code)
            for flow in flows:
                await flow.wait_ended()
        finished = True
    except TimeoutError as exc:
        if timeout is None:  # the kernel's own: starting it took too long
            raise
        raise ExecTimeoutError(
            f"{params['argv'][0]!r} ran longer than {timeout:g} s and was killed",
            stdout=collectors[0].value(),
            stderr=collectors[1].value(),
            timeout=timeout,
        ) from exc
    finally:
        for number in (start, wait):
            if number is not None:
                session.forget(number)
        for flow in flows:
            session.close_inflow(flow)
        if source is not None:
            session.close_outflow(source)
        if finished:
            session.post("dismiss", {"id": name})
        else:  # behind ``forget``: a start that was not whole yet will not come after it
            await session.see_to("release", {"id": name}, within=_KILLING)
    return ExecResult(
        exit_code=exit_code,
        stdout=collectors[0].value(),
        stderr=collectors[1].value(),
        truncated=collectors[0].truncated or collectors[1].truncated,
    )

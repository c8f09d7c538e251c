"""Sandboxes whose exec or spawn is wrong in one thing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
from conformance.wrapping import WrappedProcess, WrappedSandbox, wrong

from agenthost import ExecResult, Process
from agenthost.errors import ExecTimeoutError


@wrong("1.1")
class LosesEmptyArguments(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return await self.inner.exec([argument for argument in argv if argument], **options)


@wrong("1.1")
class SwapsHalvesOfCharacters(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return await self.inner.exec(
            [argument.encode("utf-8", "replace").decode() for argument in argv], **options
        )


@wrong("1.2")
class CutsLongArguments(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return await self.inner.exec([argument[:65536] for argument in argv], **options)


@wrong("1.3")
class InheritsTheEnvironment(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        env = {key: value for key, value in os.environ.items() if key not in ("PATH", "HOME")}
        options["env"] = {**env, **(options.get("env") or {})}
        return await self.inner.exec(argv, **options)


@wrong("1.4")
class InheritsStdin(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        options["stdin"] = options.get("stdin") or b"the host's"
        return await self.inner.exec(argv, **options)


@wrong("1.5")
class MixesStderrIn(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        result = await self.inner.exec(argv, **options)
        return replace(result, stdout=result.stdout + result.stderr, stderr=b"")


@wrong("1.6")
class LosesWhatIsAbove16MiB(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        result = await self.inner.exec(argv, **options)
        return replace(result, stdout=result.stdout[: 16 * 1024 * 1024])


@wrong("1.7")
class KnowsOnlySuccessAndFailure(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        result = await self.inner.exec(argv, **options)
        return replace(result, exit_code=min(result.exit_code, 1))


@wrong("1.7")
class TakesFailureForAnError(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        result = await self.inner.exec(argv, **options)
        if list(argv) == ["false"]:
            raise ChildProcessError(f"exit code {result.exit_code}")
        return result


@wrong("1.8")
class StartsWhatIsNotThere(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        try:
            return await self.inner.exec(argv, **options)
        except FileNotFoundError:
            return ExecResult(exit_code=127, stdout=b"", stderr=b"not found")


@wrong("1.8")
class StartsWhatIsNoProgram(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        try:
            return await self.inner.exec(argv, **options)
        except PermissionError:
            return ExecResult(exit_code=126, stdout=b"", stderr=b"not executable")


@wrong("1.9")
class LosesOutputAtATimeout(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        try:
            return await self.inner.exec(argv, **options)
        except ExecTimeoutError as error:
            error.stderr = b""
            raise


@wrong("1.10")
class RunsOnWhenCancelled(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        results: list[ExecResult | Exception] = []
        done = anyio.Event()

        async def run() -> None:
            try:
                results.append(await self.inner.exec(argv, **options))
            except Exception as error:  # noqa: BLE001 - the caller's, if there is one still
                results.append(error)
            done.set()

        self.maker.tasks.start_soon(run)
        await done.wait()
        (result,) = results
        if isinstance(result, Exception):
            raise result
        return result


@wrong("1.11")
class CutsInSilence(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return replace(await self.inner.exec(argv, **options), truncated=False)


@wrong("1.12")
class StartsNothingAtTheRoot(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        if options.get("cwd") == "/":
            del options["cwd"]
        return await self.inner.exec(argv, **options)


@wrong("1.13")
class MixesPrograms(WrappedSandbox):
    stdin = b""

    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        if "stdin" in options:
            self.stdin = options["stdin"]
            await anyio.lowlevel.checkpoint()
            options["stdin"] = self.stdin
        return await self.inner.exec(argv, **options)


async def read_all(receive: Callable[[], Awaitable[bytes]]) -> bytes:
    data = b""
    while piece := await receive():
        data += piece
    return data


@wrong("1.14")
class KillsWhatRunsInTheBackground(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        if options:
            return await self.inner.exec(argv, **options)
        async with self.inner.spawn(argv) as process:
            await process.close_stdin()
            code = await process.wait()
            stdout, stderr = await read_all(process.receive_stdout), await read_all(process.receive_stderr)
            return ExecResult(exit_code=code, stdout=stdout, stderr=stderr)


@wrong("1.15")
class IgnoresTheUser(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        if str(options.get("user")).isprintable():  # what no program can be given is refused
            options.pop("user", None)
        return await self.inner.exec(argv, **options)


@wrong(
    "2.1",
    test_writing_to_who_has_closed_stdin_is_a_broken_pipe="it waits for a line before it writes",
    test_without_a_network_nothing_is_reached="it waits until a server says that it listens",
    test_a_port_is_reached_with_what_its_endpoint_says="likewise",
)
class HoldsOutputBack(WrappedProcess):
    kept: bytes | None = None

    async def receive_stdout(self) -> bytes:
        if self.kept is None:
            self.kept = await self.inner.receive_stdout()
        if not self.kept:
            return b""
        kept, self.kept = self.kept, await self.inner.receive_stdout()
        return kept


@wrong("2.2")
class LosesAByteValue(WrappedProcess):
    async def send_stdin(self, data: bytes) -> None:
        await self.inner.send_stdin(data.replace(b"\xff", b""))


@wrong("2.3")
class WritesIntoTheVoid(WrappedProcess):
    async def send_stdin(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        with contextlib.suppress(BrokenPipeError):
            await self.inner.send_stdin(data)


@wrong("2.4")
class SignalsTheLeaderOnly(WrappedSandbox):
    @asynccontextmanager
    async def _spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Process]:
        sandbox = self.inner

        class Signalled(WrappedProcess):
            async def signal(self, signum: int) -> None:
                await sandbox.exec(["kill", f"-{signum}", str(self.pid)])

        async with sandbox.spawn(argv, **options) as process:
            yield Signalled(process)


@wrong("2.5")
class LeavesItRunning(WrappedSandbox):
    @asynccontextmanager
    async def _spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Process]:
        started, leave = anyio.Event(), anyio.Event()
        found: list[Process | Exception] = []

        async def hold() -> None:
            try:
                async with self.inner.spawn(argv, **options) as process:
                    found.append(process)
                    started.set()
                    await leave.wait()
            except Exception as error:  # noqa: BLE001 - of starting it: raised below
                found.append(error)
                started.set()

        self.maker.tasks.start_soon(hold)
        await started.wait()
        if isinstance(found[0], Exception):
            raise found[0]
        try:
            yield found[0]
        except BaseException:
            leave.set()
            raise


@wrong("2.6", test_a_sandbox_that_was_ended_is_gone_for_every_call="it sees an error of the block, too")
class RaisesGroups(WrappedSandbox):
    @asynccontextmanager
    async def _spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Process]:
        async with self.inner.spawn(argv, **options) as process, anyio.create_task_group():
            yield process


@wrong("2.7")
class DropsWhatComesTooFast(WrappedProcess):
    seen = 0

    async def receive_stdout(self) -> bytes:
        data = await self.inner.receive_stdout()
        self.seen += len(data)
        return data[:1] if self.seen > 2**20 else data


@wrong("2.8")
class ForgetsAtTheEnd(WrappedProcess):
    ended = False

    async def wait(self) -> int:
        code = await self.inner.wait()
        self.ended = True
        return code

    async def receive_stdout(self) -> bytes:
        return b"" if self.ended else await self.inner.receive_stdout()


class NeverStarted:
    """What stands for a program that could not be started."""

    pid = 0

    async def wait(self) -> int:
        return 127


@wrong("2.9")
class EntersWithoutAProgram(WrappedSandbox):
    @asynccontextmanager
    async def _spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Any]:
        try:
            async with self.inner.spawn(argv, **options) as process:
                yield process
        except FileNotFoundError:
            yield NeverStarted()


@wrong("2.10")
class WaitsOnlyOnce(WrappedProcess):
    waited = False

    async def wait(self) -> int:
        assert not self.waited, "it was asked already"
        try:
            return await self.inner.wait()
        except BaseException:
            self.waited = True
            raise

"""FakeSandbox: the Sandbox contract in memory, in virtual time, with programs that a test scripts."""

from __future__ import annotations

import errno
import itertools
import math
import os
import posixpath
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio.lowlevel

from agenthost.errors import ExecTimeoutError, FileTooLargeError, SandboxGoneError, UnsupportedError
from agenthost.files.program import call_in
from agenthost.link.arguments import check_bytes, check_number, start_params
from agenthost.sandbox import Capabilities, ExecResult, SandboxInfo
from agenthost.testing.fake_clock import FakeClock
from agenthost.testing.fake_file_program import work_on_files
from agenthost.testing.fake_files import FakeFiles
from agenthost.testing.fake_process import FakeProcess, FakeRun, ProgramView, playing
from agenthost.testing.fake_programs import ALWAYS_THERE, Behaviour, Matcher, ProgramFunction, Rule

_LONGEST_ARGUMENT = 128 * 1024 - 1  # bytes, as on Linux
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/fake", "LANG": "C.UTF-8"}


class Script:
    """Which programs there are and what they do, and which calls fail."""

    def __init__(self, above: Script | None = None) -> None:
        self._above = above
        self._rules: list[Rule] = []
        self._faults: list[Rule] = []

    def script(self, matcher: Matcher, behaviour: Behaviour, *, times: float = math.inf) -> None:
        """Say what a program does. What was said last comes first.

        Args:
            matcher: A program's name; the first words of its argv; or a function of the argv.
            behaviour: ``Scripted`` output, an async function of a ``ProgramView`` that returns the exit code
                (None is 0), or an exception that starting it raises.
            times: How many starts it is good for.
        """
        self._rules.insert(0, Rule(matcher, behaviour, times))

    def fail(self, call: str, error: BaseException, *, times: float = 1) -> None:
        """Have calls fail.

        Args:
            call: ``exec``, ``spawn``, ``read_file``, ``write_file``, ``info`` or ``terminate``; of a
                provider also ``create``, ``get`` and ``list``.
            error: What they raise, such as ``OSError(errno.ENOSPC, "No space left on device")``.
            times: How many of them.
        """
        self._faults.append(Rule(call, error, times))

    def behaviour_of(self, argv: Sequence[str]) -> Behaviour | None:
        """Return what a program does, None where there is none."""
        for rule in self._rules:
            if rule.times >= 1 and rule.fits(argv):
                rule.times -= 1
                return rule.behaviour
        return self._above.behaviour_of(argv) if self._above else ALWAYS_THERE.get(argv[0].rpartition("/")[2])

    def raise_fault(self, call: str) -> None:
        """Raise what a call fails with, if it does."""
        for rule in self._faults:
            if rule.times >= 1 and rule.matcher == call and isinstance(rule.behaviour, BaseException):
                rule.times -= 1
                raise rule.behaviour
        if self._above:
            self._above.raise_fault(call)


class FakeSandbox(Script):
    """A ``Sandbox`` for tests of programs that use one. Nothing is started, nothing is on a disk.

    Programs do what ``script`` says; without that there are ``cat``, ``echo``, ``true``, ``false``,
    ``sleep`` and what ``agenthost.files`` needs, and starting anything else is a FileNotFoundError. Time is
    the clock's: a timeout, a lifetime or a ``sleep`` ends when the test advances it. There is no shell, no
    symlink and no other user, and a signal ends a program at once.

    Attributes:
        clock: Its time.
        files: Its files, for the test to look at and to change.
        runs: What was run, in its order.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        clock: FakeClock | None = None,
        files: Mapping[str, bytes] | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str = "/workspace",
        max_lifetime: float = math.inf,
        provider: str = "fake",
        capabilities: Capabilities = Capabilities(isolation="none"),  # noqa: B008 - a frozen value
        labels: Mapping[str, str] | None = None,
        above: Script | None = None,
    ) -> None:
        """Make one that runs. ``above`` is what its provider's script says of each of its sandboxes."""
        super().__init__(above)
        self.clock = clock or FakeClock()
        self.files = FakeFiles(workdir)
        self.files.update(files or {})
        self.runs: list[FakeRun] = []
        self._env = {**_ENVIRONMENT, **(env or {})}
        self._workdir = workdir
        self._capabilities = capabilities
        self._pids = itertools.count(2)
        self._living: list[FakeProcess] = []
        self._gone: SandboxGoneError | None = None
        self._told = SandboxInfo(
            id=f"fake-{name}",
            name=name,
            provider=provider,
            state="running",
            labels=dict(labels or {}),
            created_at=self.clock.time(),
            expires_at=None if max_lifetime == math.inf else self.clock.time() + max_lifetime,
            isolation=capabilities.isolation,
        )
        if self._told.expires_at is not None:
            self.clock.call_at(self._told.expires_at, lambda: self.end("its lifetime is over"))

    def __repr__(self) -> str:
        return f"<FakeSandbox {self.name}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self._told.id

    @property
    def name(self) -> str:
        """Its name."""
        return self._told.name

    @property
    def provider(self) -> str:
        """Its provider's name."""
        return self._told.provider

    @property
    def capabilities(self) -> Capabilities:
        """What it says that it can do."""
        return self._capabilities

    @property
    def workdir(self) -> str:
        """Its working directory."""
        return self._workdir

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._gone is not None

    @property
    def told(self) -> SandboxInfo:
        """What ``info`` tells, without asking."""
        return replace(self._told, state="ended") if self.ended else self._told

    def end(self, why: str = "it has ended") -> None:
        """End it as a provider that takes it away: every call, also under way, raises SandboxGoneError."""
        if self._gone is None:
            self._gone = SandboxGoneError(f"sandbox {self.name}: {why}")
            for process in tuple(self._living):
                process.end_with_sandbox(self._gone)

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
        """Run a program to its end. See Sandbox.exec; ``timeout`` is virtual seconds."""
        await self._enter("exec")
        check_bytes("stdin", stdin)
        if timeout is not None:
            check_number("timeout", timeout)
        check_number("max_output", max_output, whole=True)
        process, function, view = self._start(argv, cwd=cwd, env=env, user=user, stdin=stdin)
        expired = False

        def expire() -> None:
            nonlocal expired
            if not process.over.is_set():
                expired = True
                process.scope.cancel()

        call_off = self.clock.call_at(self.clock.time() + (math.inf if timeout is None else timeout), expire)
        if timeout is not None and timeout <= 0:
            expire()
        try:
            async with self._counted(process, function, view):
                await process.wait()
        finally:
            call_off()
        run = process.run
        if expired and timeout is not None:
            raise ExecTimeoutError(
                f"{argv[0]!r} ran longer than {timeout:g} s and was killed",
                stdout=run.stdout[:max_output],
                stderr=run.stderr[:max_output],
                timeout=timeout,
            )
        return ExecResult(
            exit_code=run.exit_code or 0,
            stdout=run.stdout[:max_output],
            stderr=run.stderr[:max_output],
            truncated=max(len(run.told[1]), len(run.told[2])) > max_output,
        )

    @asynccontextmanager
    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AsyncGenerator[FakeProcess]:
        """Start a program with streams. See Sandbox.spawn."""
        await self._enter("spawn")
        process, function, view = self._start(argv, cwd=cwd, env=env, user=user, stdin=None)
        async with self._counted(process, function, view):
            yield process

    async def read_file(self, path: str, *, max_bytes: int = 64 * 1024 * 1024) -> bytes:
        """Return a file's bytes. See Sandbox.read_file."""
        await self._enter("read_file")
        check_number("max_bytes", max_bytes, whole=True)
        data = self.files.read(path)
        if len(data) > max_bytes:
            raise FileTooLargeError(errno.EFBIG, f"{len(data)} bytes, above max_bytes={max_bytes}", path)
        return data

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file, whole or not at all. See Sandbox.write_file."""
        await self._enter("write_file")
        check_bytes("data", data)
        check_number("mode", mode, whole=True)
        self.files.write(path, data, mode)

    async def info(self) -> SandboxInfo:
        """Tell of it."""
        await anyio.lowlevel.checkpoint()
        self.raise_fault("info")
        return self.told

    async def terminate(self) -> None:
        """End it. Idempotent."""
        await anyio.lowlevel.checkpoint()
        self.raise_fault("terminate")
        self.end("it was terminated")

    async def _enter(self, call: str) -> None:
        await anyio.lowlevel.checkpoint()
        if self._gone is not None:
            raise self._gone
        self.raise_fault(call)

    def _start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None,
        env: Mapping[str, str] | None,
        user: str | None,
        stdin: bytes | None,
    ) -> tuple[FakeProcess, ProgramFunction, ProgramView]:
        start_params("", argv, cwd=cwd, env=env, user=user)  # ValueError for what no system could start
        if user is not None:
            raise UnsupportedError(f"user={user!r}: a FakeSandbox has no other users")
        where = posixpath.normpath(posixpath.join(self._workdir, cwd or ""))
        if not self.files.is_directory(where):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), cwd)
        if any(len(os.fsencode(argument)) > _LONGEST_ARGUMENT for argument in argv):
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), argv[0])
        behaviour = self.behaviour_of(argv)
        call = call_in(argv)
        if behaviour is None and call is not None:
            behaviour = partial(work_on_files, call)
        if behaviour is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
        if isinstance(behaviour, BaseException):
            raise behaviour
        run = FakeRun(tuple(argv), where, dict(env or {}))
        self.runs.append(run)
        process = FakeProcess(run, next(self._pids), stdin)
        view = ProgramView(process, argv, {**self._env, **(env or {})}, where, self.files, self.clock)
        return process, behaviour, view

    @asynccontextmanager
    async def _counted(
        self, process: FakeProcess, function: ProgramFunction, view: ProgramView
    ) -> AsyncGenerator[None]:
        self._living.append(process)
        try:
            async with playing(process, function, view):
                yield
        finally:
            self._living.remove(process)

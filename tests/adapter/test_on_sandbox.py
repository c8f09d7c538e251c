"""A guest in a sandbox that is known only by the Sandbox contract, over a program's stdin and stdout."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from support.lent import Lent as Plain

from agenthost.adapter.on_sandbox import guest_on
from agenthost.errors import BootstrapError
from agenthost.registry import open_provider
from agenthost.sandbox import Process
from agenthost.spec import SandboxSpec


class WithTaskGroups(Plain):
    """A sandbox whose programs each hold a task group while they run."""

    @asynccontextmanager
    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AsyncGenerator[Process]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            async with super().spawn(argv, cwd=cwd, env=env, user=user) as process:
                yield process
            tasks.cancel_scope.cancel()


async def test_the_whole_contract_works_over_a_programs_stdin_and_stdout() -> None:
    async with open_provider("local") as provider:
        outer = await provider.create(SandboxSpec())
        try:
            async with guest_on(Plain(outer)) as inner:
                result = await inner.exec(["sh", "-c", "cat; exit 3"], stdin=b"in \xff")
                assert (result.exit_code, result.stdout) == (3, b"in \xff")
                data = bytes(range(256)) * 20_000
                await inner.write_file("a/b", data)
                assert await inner.read_file("a/b") == data
                assert await outer.read_file("a/b") == data
                async with inner.spawn(["cat"]) as process:
                    await process.send_stdin(b"line\n")
                    assert await process.receive_stdout() == b"line\n"
        finally:
            await outer.terminate()


async def test_the_guest_is_taken_away_and_the_sandbox_stays() -> None:
    async with open_provider("local") as provider:
        outer = await provider.create(SandboxSpec())
        try:
            async with guest_on(Plain(outer)) as inner:
                folder = inner.layout.boot_dir
                assert (await outer.exec(["test", "-d", folder])).exit_code == 0
            assert (await outer.exec(["test", "-d", folder])).exit_code == 1
            # The guest had its own process group: nothing of it is left when its folder's users are none.
            script = "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p; echo; done"
            listing = (await outer.exec(["sh", "-c", script])).stdout
            assert folder.encode() not in listing
        finally:
            await outer.terminate()


async def test_a_sandbox_without_python_is_refused_by_name() -> None:
    async with open_provider("local") as provider:
        outer = await provider.create(SandboxSpec())
        try:
            plain = Plain(outer)
            plain.python = "no-python-here"
            with pytest.raises(BootstrapError, match=f"{outer.name} has no python3"):
                async with guest_on(plain):
                    raise AssertionError("a guest without Python")
        finally:
            await outer.terminate()


async def test_a_sandbox_may_hold_a_task_group_for_each_program() -> None:
    async with open_provider("local") as provider:
        outer = await provider.create(SandboxSpec())
        try:
            async with guest_on(WithTaskGroups(outer)) as inner:
                assert (await inner.exec(["echo", "here"])).stdout == b"here\n"
        finally:
            await outer.terminate()

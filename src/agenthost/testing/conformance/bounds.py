"""Checks of what a sandbox keeps in: section 5 of the contract."""

from __future__ import annotations

import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.abc
import pytest

from agenthost.background import BackgroundTasks
from agenthost.errors import ExecTimeoutError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Mount, NetworkPolicy, ResourceLimits
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.kit import Conformance
from agenthost.testing.conformance.lifecycle import made
from agenthost.testing.conformance.streams import read_line

_MEMORY = 512  # MiB
_PIDS = 128
_LEASE = 600.0  # seconds
_SHORT_LEASE = 5.0  # that a busy machine needs to make a sandbox
_SLACK = 30.0  # seconds that a call and a clock may take


# Listens on all addresses and tells one that others reach it by. Its question for that sends nothing.
_LISTEN = """
import socket
server = socket.create_server(("0.0.0.0", 0))
own = "127.0.0.1"
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.connect(("192.0.2.1", 9))
        own = ask.getsockname()[0]
except OSError:
    pass
print(own, server.getsockname()[1], flush=True)
while True:
    server.accept()[0].close()
"""
# Prints which of its arguments it can connect to: "host port", or the name of an abstract unix socket.
_REACH = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(" ")
    try:
        if host:
            socket.create_connection((host, int(port)), 5).close()
        else:
            with socket.socket(socket.AF_UNIX) as local:
                local.connect("\\0" + target)
    except OSError:
        continue
    print(target)
"""


def python_of(sandbox: Sandbox) -> str:
    """Return the Python of a sandbox."""
    return sandbox.layout.python if isinstance(sandbox, GuestSandbox) else "python3"


async def _reach(sandbox: Sandbox, targets: list[str]) -> list[str]:
    """Return what a program inside can connect to."""
    result = await sandbox.exec([python_of(sandbox), "-I", "-c", _REACH, *targets])
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode().splitlines()


@asynccontextmanager
async def _listening_here(came: list[str]) -> AsyncGenerator[list[str]]:
    """Listen on this host where nobody comes who has a network of his own; note who comes."""

    async def meet(stream: anyio.abc.ByteStream) -> None:
        came.append("the host was reached")
        await stream.aclose()

    async with AsyncExitStack() as stack:
        loopback = await stack.enter_async_context(await anyio.create_tcp_listener(local_host="127.0.0.1"))
        targets = [f"127.0.0.1 {loopback.extra(anyio.abc.SocketAttribute.local_port)}"]
        listeners: list[anyio.abc.Listener[Any]] = [loopback]
        if sys.platform == "linux":
            targets.append(f"agenthost-{secrets.token_hex(8)}")
            abstract = await anyio.create_unix_listener(f"\0{targets[-1]}")
            listeners.append(await stack.enter_async_context(abstract))
        tasks = await stack.enter_async_context(BackgroundTasks())
        for listener in listeners:
            tasks.start_soon(listener.serve, meet)
        yield targets


@asynccontextmanager
async def _listening_in(sandbox: Sandbox) -> AsyncGenerator[str]:
    """Have a program in a sandbox listen, and yield where."""
    async with sandbox.spawn([python_of(sandbox), "-I", "-c", _LISTEN]) as process:
        yield (await read_line(process)).decode().strip()


class BoundChecks(Conformance):
    """Isolation, networks, caps, mounts and leases: each as far as the provider has it."""

    @clause("5.1", needs=("system", "isolation"))
    async def test_nothing_of_the_hosts_files_is_seen(self, sandbox: Sandbox) -> None:
        """Also not what everybody may read there."""
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            canary = anyio.Path(directory, "canary")
            await canary.write_text("seen")
            with pytest.raises(FileNotFoundError):
                await sandbox.read_file(str(canary))

    @clause("5.2", needs=("system", "isolation"))
    async def test_nothing_of_the_hosts_processes_is_seen(self, sandbox: Sandbox) -> None:
        """Only what runs in this sandbox."""
        outside, inside = (f"100000.{random.randrange(10**12):012}" for _ in range(2))
        # With a bracket the search does not find its own arguments.
        look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -x -e \"100000[.].*\""
        async with await anyio.open_process(["sleep", outside]) as host:
            try:
                result = await sandbox.exec(["sh", "-c", f'sleep "$0" & {look}; kill $!', inside])
            finally:
                host.kill()
        seen = result.stdout.decode().split()
        assert inside in seen
        assert outside not in seen

    @clause("5.3", needs=("system", "network:none"))
    async def test_without_a_network_nothing_is_reached(self, provider: SandboxProvider) -> None:
        """Of what a sandbox with a network reaches, and nothing of this host in any case."""
        opened = replace(self.spec, network=NetworkPolicy.open())
        can_be_open = "open" in provider.capabilities.networks
        proven = not can_be_open
        came: list[str] = []
        async with AsyncExitStack() as stack:
            targets = await stack.enter_async_context(_listening_here(came))
            if self.outside is not None:
                targets.append(" ".join(map(str, self.outside)))
            if can_be_open:
                peer = await stack.enter_async_context(made(provider, opened))
                targets.append(await stack.enter_async_context(_listening_in(peer)))
            async with made(provider, replace(self.spec, network=NetworkPolicy.none())) as sandbox:
                found = [*await _reach(sandbox, targets), *came]
            if can_be_open:
                async with made(provider, opened) as control:
                    proven = bool(await _reach(control, targets))
        assert found == []
        if not proven:
            pytest.skip("clause 5.3: with a network nothing that was tried is reached either; say outside=")

    @clause("5.4", needs=("system", "limit:memory_mib"))
    async def test_memory_above_the_cap_is_not_given(self, provider: SandboxProvider) -> None:
        """Below it is; and the sandbox survives who asks for more."""
        spec = replace(self.spec, limits=ResourceLimits(memory_mib=_MEMORY))
        async with made(provider, spec) as sandbox:
            for share, fits in ((0.25, True), (2, False)):
                # Without a newline, tail keeps the whole line in memory.
                count = int(_MEMORY * share)
                fill = f"head -c {count}M /dev/zero | tail -n 1 | wc -c"
                result = await sandbox.exec(["bash", "-o", "pipefail", "-c", fill])
                assert (result.exit_code == 0) is fits
            assert (await sandbox.exec(["echo", "here"])).stdout == b"here\n"

    @clause("5.5", needs=("system", "limit:pids"))
    async def test_processes_above_the_cap_are_not_started(self, provider: SandboxProvider) -> None:
        """And the sandbox survives who tries."""
        async with made(provider, replace(self.spec, limits=ResourceLimits(pids=_PIDS))) as sandbox:
            # A shell that cannot fork retries for many seconds: it is killed when the rest was refused.
            many = f"i=0; while [ $i -lt {2 * _PIDS} ]; do sleep 100000 & i=$((i + 1)); echo $i; done"
            with pytest.raises(ExecTimeoutError) as caught:
                await sandbox.exec(["bash", "-c", f"{many}; wait"], timeout=5)
            assert len(caught.value.stdout.split()) < _PIDS
            assert (await sandbox.exec(["echo", "here"])).stdout == b"here\n"

    @clause("5.6", needs=("system", "mounts"))
    async def test_a_mount_is_seen_and_cannot_be_written(self, provider: SandboxProvider) -> None:
        """What is written on the host is seen at once."""
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            file = anyio.Path(directory, "file")
            await file.write_text("first")
            mount = Mount(source=directory, target="/mnt/given")
            async with made(provider, replace(self.spec, mounts=(mount,))) as sandbox:
                assert await sandbox.read_file("/mnt/given/file") == b"first"
                await file.write_text("second")
                assert await sandbox.read_file("/mnt/given/file") == b"second"
                assert (await sandbox.exec(["sh", "-c", "echo x > /mnt/given/file"])).exit_code != 0
            assert await file.read_text() == "second"

    @clause("5.7", needs=("system", "lease"))
    async def test_a_lease_that_is_not_renewed_ends_the_sandbox(self, provider: SandboxProvider) -> None:
        """Long before its lifetime is over."""
        async with made(provider, replace(self.spec, lease=_SHORT_LEASE, max_lifetime=_LEASE)) as sandbox:
            with pytest.raises(SandboxGoneError):
                await sandbox.exec(["sleep", "100000"])

    @clause("5.8", needs=("lease",))
    async def test_the_end_of_a_leased_sandbox_is_the_leases(self, provider: SandboxProvider) -> None:
        """And never after the lifetime's."""
        async with made(provider, replace(self.spec, lease=_LEASE, max_lifetime=2 * _LEASE)) as sandbox:
            expires = (await sandbox.info()).expires_at
            assert expires is not None
            assert abs(expires - time.time() - _LEASE) < _SLACK
        async with made(provider, replace(self.spec, lease=2 * _LEASE, max_lifetime=_LEASE)) as sandbox:
            expires = (await sandbox.info()).expires_at
            assert expires is not None
            assert expires - time.time() < _LEASE + _SLACK

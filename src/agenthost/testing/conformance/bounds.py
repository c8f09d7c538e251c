"""Checks of what a sandbox keeps in: section 5 of the contract."""

from __future__ import annotations

import os
import random
import tempfile
import time
from dataclasses import replace

import anyio
import anyio.abc
import pytest

from agenthost.errors import ExecTimeoutError, SandboxGoneError
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Mount, NetworkPolicy, ResourceLimits
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.kit import Conformance
from agenthost.testing.conformance.lifecycle import made

_MEMORY = 512  # MiB
_PIDS = 128
_LEASE = 600.0  # seconds
_SHORT_LEASE = 5.0  # that a busy machine needs to make a sandbox
_SLACK = 30.0  # seconds that a call and a clock may take


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
        """Not even the host's own loopback."""
        reached: list[str] = []

        async def meet(stream: anyio.abc.SocketStream) -> None:
            reached.append("the host")
            await stream.aclose()

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, meet)
            async with made(provider, replace(self.spec, network=NetworkPolicy.none())) as sandbox:
                dial = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
                assert (await sandbox.exec(["bash", "-c", dial])).exit_code != 0
                assert (await sandbox.exec(["bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80"])).exit_code != 0
            tasks.cancel_scope.cancel()
        assert reached == []

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

"""The ``local`` provider with the real guest."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest
from local.other_user import USER, needs_root, run_as_other_user
from local.sandboxes import open_sandbox

from agenthost.errors import ConfigError, SandboxNotFoundError, SandboxStartError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.keeper.numbers import FIRST_DATA_FD, LISTEN_FD
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot
from agenthost.spec import HeaderInjection, Mount, NetworkPolicy, ResourceLimits, SandboxSpec

sandbox = partial(open_sandbox, LocalProvider)


async def test_the_tools_of_an_agent_are_there() -> None:
    async with sandbox() as (_, box):
        result = await box.exec(
            ["bash", "-c", "pwd; id -un; python3 -c 'print(6 * 7)'; sh -c 'echo $HOME $LANG'"]
        )
        assert result.stdout.decode().splitlines() == ["/workspace", "agent", "42", "/home/agent C.UTF-8"]
        assert result.exit_code == 0


async def test_the_sdk_and_its_cli_run_inside() -> None:
    async with sandbox() as (_, box):
        program = "import sys; sys.path[:0] = sys.argv[1:]; import claude_agent_sdk as s; print(s.__file__)"
        result = await box.exec([box.layout.python, "-I", "-c", program, *box.layout.site_dirs])
        assert result.stdout.decode().strip() == "/opt/agenthost/site/claude_agent_sdk/__init__.py", (
            result.stderr
        )
        result = await box.exec(["/opt/agenthost/site/claude_agent_sdk/_bundled/claude", "--version"])
        assert b"Claude Code" in result.stdout, result.stderr


async def test_it_tells_what_it_really_got() -> None:
    async with sandbox(SandboxSpec(labels={"team": "a"}, max_lifetime=60)) as (provider, box):
        info = await box.info()
        assert (info.state, info.isolation, info.labels["team"]) == ("running", "namespaces", "a")
        assert info.created_at is not None
        assert info.expires_at == info.created_at + 60
        assert info.resources["seccomp"] == "on"
        assert info.resources["network"] == "none"
        assert info.resources["limits"] in ("cgroup1", "cgroup2", "rlimit", "none")
        assert int(info.resources["uid"]) != 0
        listed = [found.name async for found in provider.list({"team": "a"})]
        assert listed == [box.name]


async def test_another_host_gets_it_by_its_id_with_the_directory_it_was_made_with() -> None:
    async with sandbox(SandboxSpec(workdir="/project/sub")) as (_, box):
        await box.write_file("note", b"kept")
        async with LocalProvider() as other:
            again = await other.get(box.id)
            assert again.workdir == "/project/sub"
            assert await again.read_file("note") == b"kept"
            await again.terminate()
            with pytest.raises(SandboxNotFoundError):
                await other.get(box.id)


@pytest.mark.parametrize(
    ("spec", "error", "word"),
    [
        (SandboxSpec(network=NetworkPolicy.allow(["example.org"])), UnsupportedError, "network"),
        (SandboxSpec(image="debian"), UnsupportedError, "image"),
        (SandboxSpec(region="moon"), UnsupportedError, "region"),
        (
            SandboxSpec(inject=(HeaderInjection(host="h", header="x", secret="s"),)),
            UnsupportedError,
            "inject",
        ),
        (SandboxSpec(limits=ResourceLimits(cpu=0.001)), UnsupportedError, "processor"),
        (SandboxSpec(cpu=100_000), UnsupportedError, "cores"),
        (SandboxSpec(memory_mib=1 << 40), UnsupportedError, "memory_mib"),
        (SandboxSpec(disk_mib=1 << 40), UnsupportedError, "disk_mib"),
        (SandboxSpec(provider_options={"tmp": 1}), ConfigError, "tmp_mib"),
        (SandboxSpec(provider_options={"tmp_mib": 0}), ConfigError, "tmp_mib"),
        (SandboxSpec(provider_options={"tmp_mib": True}), ConfigError, "tmp_mib"),
        (SandboxSpec(workdir="/usr/x"), ConfigError, "/usr"),
        (SandboxSpec(workdir="/"), ConfigError, "taken"),
        (SandboxSpec(workdir="/opt"), ConfigError, "agenthost"),
        (SandboxSpec(workdir="/a/../etc"), ConfigError, "plain"),
        (SandboxSpec(mounts=(Mount(source="/usr", target="/workspace"),)), ConfigError, "/workspace"),
        (SandboxSpec(mounts=(Mount(source="/no/such", target="/x"),)), ConfigError, "/no/such"),
        (SandboxSpec(mounts=(Mount(source="usr", target="/x"),)), ConfigError, "usr"),
        (SandboxSpec(mounts=(Mount(source="/usr", target="/proc/sys"),)), ConfigError, "/proc"),
    ],
)
async def test_what_it_cannot_do_is_refused_before_anything_is_made(
    spec: SandboxSpec, error: type[Exception], word: str, tmp_path: Path
) -> None:
    async with LocalProvider(state_dir=str(tmp_path)) as provider:
        with pytest.raises(error, match=word):
            await provider.create(spec)
    assert [name for _, folders, _ in os.walk(tmp_path / "local") for name in folders] == []


async def test_several_are_made_at_once() -> None:
    async with LocalProvider() as provider:
        boxes: list[GuestSandbox] = []

        async def make() -> None:
            boxes.append(await provider.create(SandboxSpec()))

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(make)
            names = {(await box.exec(["cat", "/proc/sys/kernel/hostname"])).stdout for box in boxes}
            assert names == {b"sandbox\n"}
            assert len({box.name for box in boxes}) == 4
        finally:
            with anyio.CancelScope(shield=True):
                for box in boxes:
                    await box.terminate()


async def test_it_does_not_matter_which_files_the_host_has_open(pytestconfig: pytest.Config) -> None:
    step = 1 if pytestconfig.getoption("--full") else 3
    async with LocalProvider() as provider:
        with ExitStack() as stack:
            # Up to beyond the numbers at which a sandbox's first program finds its own.
            while (fd := os.open("/dev/null", os.O_RDONLY)) < FIRST_DATA_FD + 4:
                stack.callback(os.close, fd)
                if fd < LISTEN_FD - 12 or fd % step:
                    continue
                box = await provider.create(SandboxSpec())
                await box.terminate()
            stack.callback(os.close, fd)


class _BrokenGuest(LocalProvider):
    """Puts something else in the guest's place."""

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Start a sandbox whose guest ends at once."""
        files = {**boot.files, "guest.pyz": b"raise SystemExit('the reason')"}
        return await super().make(spec, Boot(files=files, config=boot.config))


async def test_a_guest_that_does_not_start_tells_why_and_nothing_is_left(tmp_path: Path) -> None:
    async with _BrokenGuest(state_dir=str(tmp_path)) as provider:
        with pytest.raises(SandboxStartError, match=r"exit code 1.*the reason"):
            await provider.create(SandboxSpec())
    assert [name for _, folders, _ in os.walk(tmp_path / "local") for name in folders] == []


# ---- a host that is not root

_PROGRAM = """
import json, os, sys
import anyio
from agenthost.providers.local.keeper.numbers import FIRST_DATA_FD, LISTEN_FD
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec

async def main():
    async with LocalProvider() as provider:
        box = await provider.create(SandboxSpec())
        try:
            look = "import os; print(os.getuid(), open('/proc/sys/kernel/core_pattern').read() != '')"
            result = await box.exec(["python3", "-c", look])
            info = await box.info()
            listed = [found.name async for found in provider.list()]
            assert listed == [box.name], listed
            print(json.dumps([result.stdout.decode(), result.stderr.decode(), info.resources]))
        finally:
            await box.terminate()
        assert [found async for found in provider.list()] == []
        assert os.listdir(os.environ["AGENTHOST_STATE_DIR"] + "/local") == []

anyio.run(main, backend=sys.argv[1])
"""


@needs_root
def test_a_host_that_is_not_root_has_the_same(anyio_backend: str) -> None:
    answer = run_as_other_user(_PROGRAM, anyio_backend)
    assert '"1000 True\\n"' in answer
    assert f'"uid": "{USER}"' in answer

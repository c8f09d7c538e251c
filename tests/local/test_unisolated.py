"""``local-unisolated``: no isolation, but the same life and the same end."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from local.sandboxes import open_sandbox
from local.stand_in import contents, process_with, wait_gone

from agenthost.errors import SandboxNotFoundError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.spec import Mount, NetworkPolicy, SandboxSpec

sandbox = partial(open_sandbox, UnisolatedProvider)


async def start_daemon(box: GuestSandbox, *, hidden: bool = False) -> int:
    """Start a program that leaves its group, session and parent; return its process id."""
    marker = f"sleep 3600; : {box.name}-daemon"
    # It must have its own session before the program that starts it ends: a group is killed then.
    program = f"""
import os, subprocess
options = {{"cwd": "/", "env": {{}}}} if {hidden} else {{}}
subprocess.Popen(
    ["/bin/sh", "-c", {marker!r}], start_new_session=True, stdin=-3, stdout=-3, stderr=-3, **options
)
os._exit(0)
"""
    result = await box.exec([box.layout.python, "-I", "-c", program])
    assert result.exit_code == 0, result.stderr
    return await process_with(marker, b"/bin/sh\0-c\0sleep")


def directory_of(box: GuestSandbox) -> Path:
    """Return the sandbox's directory."""
    return Path(box.workdir).parent


async def test_it_says_that_nothing_is_isolated() -> None:
    async with sandbox() as (provider, box):
        assert provider.capabilities.isolation == "none"
        assert box.layout.isolation == "none"
        info = await box.info()
        assert info.isolation == "none"
        assert info.resources["seccomp"] == "off"
        assert box.layout.user_is_root == (os.geteuid() == 0)


async def test_a_program_runs_in_a_temporary_directory_with_a_fresh_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTHOST_CANARY", "host-environment-canary")
    async with sandbox(SandboxSpec(env={"MINE": "yes"})) as (_, box):
        result = await box.exec(["sh", "-c", "pwd; echo $HOME; env"])
        lines = result.stdout.decode().splitlines()
        assert lines[0] == box.workdir
        assert lines[1] == str(directory_of(box) / "home")
        assert "MINE=yes" in lines
        assert not [line for line in lines if "canary" in line]
    assert not directory_of(box).exists()


@pytest.mark.parametrize("hidden", [False, True])
async def test_terminate_ends_daemons_too(hidden: bool) -> None:
    async with sandbox() as (_, box):
        daemon = await start_daemon(box, hidden=hidden)
        await box.terminate()
        assert wait_gone(daemon)
        assert not directory_of(box).exists()


async def test_the_lifetime_ends_daemons_too() -> None:
    async with sandbox(SandboxSpec(max_lifetime=1.0)) as (_, box):
        daemon = await start_daemon(box)
        assert wait_gone(daemon, 30)
        keeper = json.loads(contents(directory_of(box) / "state.json"))["keeper"] if _there(box) else None
        assert keeper is None or wait_gone(keeper, 30)
        assert not _there(box)


def _there(box: GuestSandbox) -> bool:
    return (directory_of(box) / "state.json").exists()


async def test_a_killed_keepers_processes_are_found_and_ended_by_list() -> None:
    async with sandbox() as (provider, box):
        daemon = await start_daemon(box)
        keeper = json.loads(contents(directory_of(box) / "state.json"))["keeper"]
        os.kill(keeper, signal.SIGKILL)
        assert wait_gone(keeper)
        assert box.name not in [info.name async for info in provider.list()]
        assert wait_gone(daemon)
        assert not directory_of(box).exists()
        with pytest.raises(SandboxNotFoundError):
            await provider.get(box.id)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (SandboxSpec(network=NetworkPolicy.none()), "network"),
        (SandboxSpec(network=NetworkPolicy.allow(["example.org"])), "network"),
        (SandboxSpec(mounts=(Mount(source="/usr", target="/x"),)), "mounts"),
        (SandboxSpec(workdir="/workspace"), "workdir"),
        (SandboxSpec(image="debian"), "image"),
    ],
)
async def test_what_it_cannot_do_is_refused(spec: SandboxSpec, word: str) -> None:
    async with UnisolatedProvider() as provider:
        with pytest.raises(UnsupportedError, match=word):
            await provider.create(spec)
        assert [info async for info in provider.list()] == []

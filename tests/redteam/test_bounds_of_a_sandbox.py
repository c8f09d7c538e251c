"""A program inside takes what the host has a limited number of: processes, threads, room for core files."""

from __future__ import annotations

import os
from functools import partial

import pytest
from docker.docker_engine import DockerEngine
from local.sandboxes import open_sandbox
from local.stand_in import contents
from redteam.weakened import without_defaults

from agenthost.link.client import GuestSandbox
from agenthost.providers.docker import bounds
from agenthost.providers.docker.provider import DockerProvider
from agenthost.providers.local import limits
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import ResourceLimits, SandboxSpec

sandbox = partial(open_sandbox, LocalProvider)
needs_pids = pytest.mark.skipif(
    "pids" not in limits.supported_limits(), reason="not in CI: this machine has no control group for pids"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="not in CI: only a host that is root changes its user"
)

PROCESSES = """
import os, signal
children = []
try:
    while len(children) < 150:
        if (pid := os.fork()) == 0:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    pass
print(len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""
THREADS = """
import os, _thread, time
started = 0
try:
    while started < 150:
        _thread.start_new_thread(time.sleep, (3600,))
        started += 1
except RuntimeError:
    pass
print(started, flush=True)
os._exit(0)
"""
CRASH = """
import os, resource, signal
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if (pid := os.fork()) == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
    signal.pause()
print(int(os.WCOREDUMP(os.waitpid(pid, 0)[1])))
"""


async def count(box: GuestSandbox, program: str) -> int:
    """Run an attack; return what it got."""
    result = await box.exec(["python3", "-I", "-c", program])
    assert result.exit_code == 0, result.stderr
    return int(result.stdout)


def few_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the default small enough for a test."""
    monkeypatch.setattr(limits, "_DEFAULT_PIDS", 60)


@needs_pids
@pytest.mark.attack("take all processes of the host", "a fork bomb")
@pytest.mark.attack("take all processes of the host", "a flood of threads")
async def test_processes_and_threads_end_at_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    few_by_default(monkeypatch)
    async with sandbox() as (_, box):
        assert await count(box, PROCESSES) < 60
        assert await count(box, THREADS) < 60
        assert (await box.info()).resources["pids"] == "60"


@needs_root
@pytest.mark.attack("take all processes of the host", "a fork bomb where there is no control group")
async def test_processes_end_at_the_default_without_a_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    few_by_default(monkeypatch)
    without_groups(monkeypatch)
    async with sandbox() as (_, box):
        assert await count(box, PROCESSES) < 60
        assert (await box.info()).resources["limits"] == "rlimit"


@pytest.mark.control("a fork bomb")
@pytest.mark.control("a flood of threads")
@pytest.mark.control("a fork bomb where there is no control group")
async def test_without_a_default_there_are_as_many_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    without_defaults(monkeypatch)
    async with sandbox() as (_, box):
        assert await count(box, PROCESSES) == 150
        assert await count(box, THREADS) == 150


def without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine without control groups."""

    def nothing(_proc: str) -> list[object]:
        return []

    monkeypatch.setattr(limits, "_mounts", nothing)
    monkeypatch.setattr(limits, "_warned", {"memory_mib", "pids", "cpu_weight"})


@pytest.mark.attack("fill the disk of the host", "core files of crashes")
async def test_a_crash_leaves_no_core_file() -> None:
    async with sandbox() as (_, box):
        assert await count(box, CRASH) == 0
        assert (await box.exec(["ls", "-A"])).stdout == b""


@pytest.mark.control("core files of crashes")
async def test_where_the_size_of_core_files_has_no_bound_one_is_written() -> None:
    if contents("/proc/sys/kernel/core_pattern").startswith((b"|", b"\n", b"/", b"@")):
        pytest.skip("not in CI: this machine writes no core file into the directory of a program")
    async with sandbox(SandboxSpec(limits=ResourceLimits(core_mib=64))) as (_, box):
        assert await count(box, CRASH) == 1


# ---- the same on an engine of containers


@pytest.mark.attack("take all processes of the host", "a fork bomb")
@pytest.mark.attack("take all processes of the host", "a flood of threads")
@pytest.mark.attack("fill the disk of the host", "core files of crashes")
@pytest.mark.usefixtures("baked")
async def test_a_container_has_the_same_bounds(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_PIDS", 60)
    async with open_sandbox(lambda: DockerProvider(host=docker_engine.host)) as (_, box):
        assert await count(box, PROCESSES) < 60
        assert await count(box, THREADS) < 60
        assert await count(box, CRASH) == 0


@pytest.mark.control("a fork bomb")
@pytest.mark.control("a flood of threads")
@pytest.mark.usefixtures("baked")
async def test_a_container_with_more_has_more(docker_engine: DockerEngine) -> None:
    async with open_sandbox(lambda: DockerProvider(host=docker_engine.host)) as (_, box):
        assert await count(box, PROCESSES) == 150
        assert await count(box, THREADS) == 150

"""A program inside takes what the host has a limited number of: processes, threads, room for core files."""

from __future__ import annotations

import os
from functools import partial

import anyio
import pytest
from docker.docker_engine import DockerEngine
from local.sandboxes import open_sandbox
from local.stand_in import contents, stand_in
from redteam.weakened import without_defaults

from agenthost.errors import SandboxGoneError
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


# ---- files on disk

ONE_LARGE_FILE = """
import os, time
with open("large", "wb", buffering=0) as file:
    for _ in range(40):
        file.write(bytes(1 << 20))
print("written", flush=True)
"""
WITHOUT_A_NAME = """
import os, signal
with open("large", "wb", buffering=0) as file:
    os.unlink("large")
    for _ in range(40):
        file.write(bytes(1 << 20))
    print("written", flush=True)
    signal.pause()
"""
# The files of a process are listed at its first thread, which ends here (system call ``exit``).
OF_A_THREAD = f"""
import ctypes, platform, threading
threading.Thread(target=exec, args=({WITHOUT_A_NAME!r}, {{}})).start()
ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)
"""
# Below more directories than a path has room for.
IN_THE_DEPTH = """
import os
for _ in range(800):
    os.mkdir("deeper")
    os.chdir("deeper")
with open("large", "wb", buffering=0) as file:
    for _ in range(40):
        file.write(bytes(1 << 20))
print("written", flush=True)
"""
MANY_FILES = """
for number in range(3000):
    open(str(number), "w").close()
print("written", flush=True)
"""
LITTLE_DISK = SandboxSpec(limits=ResourceLimits(disk_mib=20, inodes=2000))


async def ends_by(program: str) -> str:
    """Run an attack in a sandbox with little room; return why the sandbox ended."""
    async with stand_in(LITTLE_DISK) as sandbox:
        # In a process of its own, which the guest does not wait for.
        await sandbox.run(f"import os\nif os.fork() == 0:\n    exec({program!r})\n    os._exit(0)")
        with anyio.fail_after(30):
            words = await sandbox.backend.last_words()
        assert words is not None
        assert not sandbox.directory.exists()
        with pytest.raises(SandboxGoneError, match="20 MiB in 2000 files"):
            await sandbox.backend.dial()
        return words.why


@pytest.mark.attack("fill the disk of the host", "one large file")
async def test_a_sandbox_that_writes_more_than_it_may_is_ended() -> None:
    assert await ends_by(ONE_LARGE_FILE) == "disk"


@pytest.mark.attack("fill the disk of the host", "a file deeper than a path is long")
async def test_what_lies_deep_counts() -> None:
    assert await ends_by(IN_THE_DEPTH) == "disk"


@pytest.mark.attack("fill the disk of the host", "more files than there may be")
async def test_the_number_of_files_counts() -> None:
    assert await ends_by(MANY_FILES) == "disk"


@needs_root
@pytest.mark.attack("fill the disk of the host", "an open file without a name")
async def test_a_file_without_a_name_counts() -> None:
    assert await ends_by(WITHOUT_A_NAME) == "disk"


@needs_root
@pytest.mark.full
@pytest.mark.attack("fill the disk of the host", "an open file of a process without its first thread")
async def test_a_file_that_only_a_later_thread_holds_counts() -> None:
    assert await ends_by(OF_A_THREAD) == "disk"


@pytest.mark.control("an open file of a process without its first thread")
@pytest.mark.control("one large file")
@pytest.mark.control("a file deeper than a path is long")
@pytest.mark.control("more files than there may be")
@pytest.mark.control("an open file without a name")
async def test_without_a_bound_all_of_it_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    without_defaults(monkeypatch)
    async with sandbox() as (_, box):
        for program in (ONE_LARGE_FILE, IN_THE_DEPTH, MANY_FILES):
            result = await box.exec(["python3", "-I", "-c", program])
            assert result.stdout == b"written\n"
        for program in (WITHOUT_A_NAME, OF_A_THREAD):
            async with box.spawn(["python3", "-I", "-c", program]) as process:
                assert await process.receive_stdout() == b"written\n"
        # As long as a sandbox with a bound lives that has grown past it.
        assert await ends_by(ONE_LARGE_FILE) == "disk"
        assert (await box.info()).state == "running"


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

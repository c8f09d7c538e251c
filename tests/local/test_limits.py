"""Hard caps: exactly, or refused before anything is made."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import anyio
import pytest
from local.stand_in import StandIn, contents, is_part_of, processes_with, stand_in, wait_gone

from agenthost.errors import SandboxGoneError, UnsupportedError
from agenthost.providers.local import limits as limits_module
from agenthost.providers.local.limits import (
    default_limits,
    plan_limits,
    supported_limits,
    warn_of_missing,
)
from agenthost.spec import ResourceLimits, SandboxSpec

needs = {
    name: pytest.mark.skipif(
        name not in supported_limits(), reason=f"not in CI: this machine has no control group for {name}"
    )
    for name in ("memory_mib", "cpu", "pids")
}


def groups_of(sandbox: StandIn) -> list[Path]:
    """Return the control groups of a sandbox."""
    return [Path(path) for path in json.loads(contents(sandbox.directory / "state.json"))["cgroups"]]


@needs["memory_mib"]
async def test_a_program_that_takes_too_much_memory_is_killed() -> None:
    async with stand_in(SandboxSpec(limits=ResourceLimits(memory_mib=64))) as sandbox:
        said = await sandbox.run(
            """
import os
pid = os.fork()
if pid == 0:
    bytearray(48 << 20)
    print("48 MiB fit")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
pid = os.fork()
if pid == 0:
    open("/proc/self/oom_score_adj", "w").write("1000")
    block = bytearray(os.urandom(1 << 20)) * 160
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
        )
        assert said.split() == ["0", "-9"]
        info = await sandbox.backend.info()
        assert info.resources["memory"] == "64 MiB"
        assert info.resources["limits"] in ("cgroup1", "cgroup2")


@needs["pids"]
async def test_no_more_processes_and_threads_than_allowed() -> None:
    async with stand_in(SandboxSpec(limits=ResourceLimits(pids=20))) as sandbox:
        said = await sandbox.run(
            """
import os, signal
children = []
try:
    while len(children) < 100:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
except BlockingIOError:
    pass
print(len(children), len([name for name in os.listdir("/proc") if name.isdigit()]))
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""
        )
        assert said.split() == ["19", "20"]


@needs["cpu"]
async def test_the_processor_cap_reaches_the_kernel_and_holds_every_process() -> None:
    async with stand_in(SandboxSpec(limits=ResourceLimits(cpu=0.25))) as sandbox:
        await sandbox.run("")
        (group,) = [path for path in groups_of(sandbox) if list(path.glob("cpu.*"))]
        if (group / "cpu.max").exists():
            assert contents(group / "cpu.max").split() == [b"25000", b"100000"]
            assert contents(group / "cpu.weight").strip() == b"100"
        else:
            assert contents(group / "cpu.cfs_quota_us").strip() == b"25000"
            assert contents(group / "cpu.cfs_period_us").strip() == b"100000"
            assert contents(group / "cpu.shares").strip() == b"1024"
        inside = {int(pid) for pid in contents(group / "cgroup.procs").split()}
        ours = {pid for pid in processes_with("stand_in.py") if is_part_of(sandbox, pid)}
        assert len(ours) == 2
        assert inside == ours


@needs["pids"]
@needs["memory_mib"]
async def test_the_groups_go_with_the_sandbox_also_when_the_keeper_is_killed() -> None:
    spec = SandboxSpec(limits=ResourceLimits(memory_mib=256, pids=64))
    async with stand_in(spec) as sandbox:
        groups = groups_of(sandbox)
        assert all(group.is_dir() for group in groups)
        await sandbox.backend.terminate()
        assert not [group for group in groups if group.exists()]
    async with stand_in(spec) as sandbox:
        groups = groups_of(sandbox)
        keeper = json.loads(contents(sandbox.directory / "state.json"))["keeper"]
        os.kill(keeper, signal.SIGKILL)
        assert wait_gone(keeper)
        with anyio.fail_after(30):
            while sandbox.directory.exists():
                assert sandbox.name not in [info.name async for info in sandbox.engine.list(None)]
        assert not [group for group in groups if group.exists()]


@pytest.mark.parametrize("name", ["disk_mib", "inodes"])
def test_a_disk_cap_is_refused_where_programs_write_anywhere(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        plan_limits(ResourceLimits(**{name: 100}), "x", own_files=False)


def test_a_processor_cap_below_the_kernels_least_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"0\.01"):
        plan_limits(ResourceLimits(cpu=0.001), "x")


@needs["memory_mib"]
@needs["pids"]
async def test_a_sandbox_without_caps_has_the_defaults_and_says_so() -> None:
    wanted = default_limits(SandboxSpec(), "/")
    assert wanted.memory_mib is not None
    assert wanted.memory_mib <= 4096
    async with stand_in() as sandbox:
        resources = (await sandbox.backend.info()).resources
        groups = groups_of(sandbox)
        said = await sandbox.run("print(open('/proc/self/oom_score_adj').read())")
    assert resources["memory"] == f"{wanted.memory_mib} MiB"
    assert (resources["pids"], resources["core"]) == ("4096", "none")
    assert all(group.name == f"agenthost-{sandbox.name}" for group in groups)
    assert int(said) >= 500


def test_no_default_is_below_what_the_spec_wants_at_least() -> None:
    assert default_limits(SandboxSpec(memory_mib=9000), "/").memory_mib == 9000


@needs["memory_mib"]
async def test_a_guest_that_was_killed_for_want_of_memory_says_so() -> None:
    async with stand_in(SandboxSpec(limits=ResourceLimits(memory_mib=64))) as sandbox:
        await sandbox.run("block = bytearray(b'x') * (100 << 20)")
        with anyio.fail_after(30):
            words = await sandbox.backend.last_words()
        assert words is not None
        assert words.oom_kills == 1
        with pytest.raises(
            SandboxGoneError, match=r"memory was used up, 64 MiB.*ResourceLimits\(memory_mib="
        ):
            await sandbox.backend.dial()


@needs["memory_mib"]
async def test_a_living_sandbox_tells_how_many_processes_had_to_go() -> None:
    async with stand_in(SandboxSpec(limits=ResourceLimits(memory_mib=64))) as sandbox:
        assert "oom_kills" not in (await sandbox.backend.info()).resources
        await sandbox.run(
            """
import os
if (pid := os.fork()) == 0:
    open("/proc/self/oom_score_adj", "w").write("1000")
    block = bytearray(b"x") * (100 << 20)
os.waitpid(pid, 0)
"""
        )
        assert (await sandbox.backend.info()).resources["oom_kills"] == "1"


def test_defaults_that_cannot_be_enforced_are_left_out_and_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits_module, "_warned", set[str]())
    proc = machine(tmp_path, cgroup="0::/\n", mounts="")
    defaults = default_limits(SandboxSpec(), "/")
    plan = plan_limits(ResourceLimits(), "x", defaults=defaults, proc=proc)
    assert (plan.groups, plan.mechanism, plan.caps.memory_mib, plan.caps.pids) == ((), "none", None, None)
    for _ in range(2):
        warn_of_missing(defaults, plan.caps)
    (record,) = caplog.records
    assert "memory_mib, pids, cpu_weight" in record.message


def test_where_the_user_is_the_sandboxes_own_processes_are_bounded_without_a_group(tmp_path: Path) -> None:
    proc = machine(tmp_path, cgroup="0::/\n", mounts="")
    plan = plan_limits(ResourceLimits(pids=9), "x", outside=1, own_uid=True, proc=proc)
    assert plan.mechanism == "rlimit"
    assert (resource.RLIMIT_NPROC, 10) in plan.rlimits
    assert plan.caps.pids == 9


@pytest.mark.parametrize(
    ("enabled", "found"),
    [("cpu memory pids", "memory pids cpu"), ("memory pids", "memory pids"), ("pids", "pids")],
)
def test_of_the_defaults_those_hold_that_a_delegated_subtree_can(
    tmp_path: Path, enabled: str, found: str
) -> None:
    root = tmp_path / "cgroup"
    make_group(root, enabled)
    proc = machine(tmp_path, cgroup="0::/\n", mounts=f"30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    plan = plan_limits(ResourceLimits(), "x", defaults=default_limits(SandboxSpec(), "/"), proc=proc)
    values = [name for name, _ in plan.groups[0][1]]
    wanted = {"memory": ["memory.max", "memory.swap.max"], "pids": ["pids.max"], "cpu": ["cpu.weight"]}
    assert sorted(values) == sorted(name for one in found.split() for name in wanted[one])


def machine(tmp_path: Path, *, cgroup: str, mounts: str) -> str:
    """Make the two files of /proc that tell about control groups."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text(mounts)
    return str(proc)


def make_group(path: Path, controllers: str) -> None:
    """Make what looks like a group of cgroup v2."""
    path.mkdir(parents=True)
    (path / "cgroup.procs").touch()
    (path / "cgroup.subtree_control").write_text(controllers)


def test_without_control_groups_a_cap_is_refused_and_says_how_to_get_one(tmp_path: Path) -> None:
    proc = machine(tmp_path, cgroup="0::/\n", mounts="")
    with pytest.raises(UnsupportedError, match="Delegate=yes"):
        plan_limits(ResourceLimits(memory_mib=64), "x", proc=proc)
    assert plan_limits(ResourceLimits(), "x", proc=proc).mechanism == "none"


def test_a_delegated_subtree_of_cgroup_v2_is_used(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    make_group(root, "cpu memory pids")
    make_group(root / "user", "memory pids")
    make_group(root / "user" / "shell.scope", "")
    mount = f"30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n"
    proc = machine(tmp_path, cgroup="0::/user/shell.scope\n", mounts=mount)
    plan = plan_limits(ResourceLimits(memory_mib=64, pids=9), "x", outside=1, proc=proc)
    # Our own group has processes, so it can give controllers to none below; the one above can.
    assert plan.mechanism == "cgroup2"
    assert plan.groups == (
        (
            f"{root}/user/agenthost-x",
            [("memory.max", str(64 << 20)), ("memory.swap.max", "0"), ("pids.max", "10")],
        ),
    )
    plan = plan_limits(ResourceLimits(cpu=1.5), "x", proc=proc)
    assert plan.groups == ((f"{root}/agenthost-x", [("cpu.max", "150000 100000")]),)


def test_in_a_container_only_the_visible_part_of_the_tree_counts(tmp_path: Path) -> None:
    root = tmp_path / "memory"
    make_group(root / "inner", "")
    mount = f"30 20 0:26 /docker/abc {root} rw - cgroup cgroup rw,memory\n"
    proc = machine(tmp_path, cgroup="4:memory:/docker/abc/inner\n", mounts=mount)
    plan = plan_limits(ResourceLimits(memory_mib=1), "x", proc=proc)
    assert [path for path, _ in plan.groups] == [f"{root}/inner/agenthost-x"]
    (tmp_path / "proc" / "cgroup").write_text("4:memory:/docker/other\n")
    with pytest.raises(UnsupportedError, match="memory"):
        plan_limits(ResourceLimits(memory_mib=1), "x", proc=proc)

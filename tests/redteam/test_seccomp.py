"""A program inside tries to reach the kernel by calls that an agent's tools do not need."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import AsyncIterator

import pytest
from local.stand_in import StandIn, contents, stand_in
from redteam.weakened import with_decisions

_COLUMN = 0 if platform.machine() == "x86_64" else 1

# Each prints what the kernel answered: 0 or above, or minus the number of the error.
_CALL = """
import ctypes, json, mmap
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*(a if not isinstance(a, int) else ctypes.c_long(a) for a in arguments))
    return result if result >= 0 else -ctypes.get_errno()
"""
LIST_MOUNTS = """
request = (ctypes.c_uint64 * 4)(24, 0xFFFFFFFFFFFFFFFF, 0, 0)  # struct mnt_id_req, LSMT_ROOT
answer = call(458, request, (ctypes.c_uint64 * 64)(), 64, 0)
"""
LIST_SECURITY_MODULES = """
size = ctypes.c_uint32(512)
answer = call(461, (ctypes.c_uint64 * 64)(), ctypes.byref(size), 0)
"""
WATCH_FILE_SYSTEM = f"""
FAN_REPORT_FID = 0x200
answer = call({(300, 262)[_COLUMN]}, FAN_REPORT_FID, 0)
"""
PLACE_MEMORY = f"""
answer = call({(238, 237)[_COLUMN]}, 4, 0, 0)  # set_mempolicy(MPOL_LOCAL)
"""
READ_KERNEL_LOG = f"""
SYSLOG_ACTION_SIZE_UNREAD = 9
answer = call({(103, 116)[_COLUMN]}, SYSLOG_ACTION_SIZE_UNREAD, 0, 0)
"""
RUN_DATA_AS_CODE = f"""
READ_IMPLIES_EXEC = 0x0400000
answer = call({(135, 92)[_COLUMN]}, READ_IMPLIES_EXEC)
call({(135, 92)[_COLUMN]}, 0)
"""


@pytest.fixture(scope="module")
async def inside() -> AsyncIterator[StandIn]:
    """One sandbox for all attacks."""
    async with stand_in() as sandbox:
        yield sandbox


async def answers(sandbox: StandIn, *attacks: str) -> list[int]:
    """Return what the kernel answered to each attack."""
    found: list[int] = []
    for attack in attacks:
        said = await sandbox.run(_CALL + attack + "\nprint(json.dumps(answer))")
        found.append(int(json.loads(said)))
    return found


@pytest.mark.attack("learn about the host", "a system call of a newer kernel")
async def test_calls_that_the_list_does_not_know_do_not_exist(inside: StandIn) -> None:
    assert await answers(inside, LIST_MOUNTS, LIST_SECURITY_MODULES) == [-errno.ENOSYS] * 2


@pytest.mark.attack("watch whole file systems", "a system call that needs no privilege since Linux 5.13")
async def test_file_systems_cannot_be_watched(inside: StandIn) -> None:
    assert await answers(inside, WATCH_FILE_SYSTEM) == [-errno.EPERM]


@pytest.mark.attack("take the memory of one processor", "a memory policy")
async def test_memory_cannot_be_placed(inside: StandIn) -> None:
    assert await answers(inside, PLACE_MEMORY) == [-errno.EPERM]


@pytest.mark.attack("make faults of programs exploitable", "a personality whose data is code")
async def test_data_cannot_be_made_code(inside: StandIn) -> None:
    assert await answers(inside, RUN_DATA_AS_CODE) == [-errno.EPERM]


@pytest.mark.attack("read the addresses of the kernel", "the kernel's log")
async def test_the_log_of_the_kernel_cannot_be_read(inside: StandIn) -> None:
    assert await answers(inside, READ_KERNEL_LOG) == [-errno.EPERM]


@pytest.mark.control("a system call of a newer kernel")
@pytest.mark.control("a system call that needs no privilege since Linux 5.13")
@pytest.mark.control("a memory policy")
@pytest.mark.control("a personality whose data is code")
async def test_where_only_some_calls_are_forbidden_these_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_decisions(monkeypatch, unknown="allow", eperm="allow", personality="allow")
    attacks = {
        "LIST_MOUNTS": LIST_MOUNTS,
        "LIST_SECURITY_MODULES": LIST_SECURITY_MODULES,
        "WATCH_FILE_SYSTEM": WATCH_FILE_SYSTEM,
        "PLACE_MEMORY": PLACE_MEMORY,
        "RUN_DATA_AS_CODE": RUN_DATA_AS_CODE,
    }
    async with stand_in() as sandbox:
        results = dict(zip(attacks, await answers(sandbox, *attacks.values()), strict=True))
    old = {name for name, result in results.items() if result == -errno.ENOSYS}
    assert {name: result for name, result in results.items() if result < 0 and name not in old} == {}
    assert old <= {"LIST_MOUNTS", "LIST_SECURITY_MODULES"}, "a kernel before 6.8 has these two not at all"


@pytest.mark.control("the kernel's log")
async def test_where_it_is_not_forbidden_the_log_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    if contents("/proc/sys/kernel/dmesg_restrict").strip() != b"0":
        pytest.skip("not in CI: this kernel keeps its log from all but administrators")
    with_decisions(monkeypatch, eperm="allow")
    async with stand_in() as sandbox:
        assert (await answers(sandbox, READ_KERNEL_LOG))[0] >= 0

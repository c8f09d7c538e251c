"""A program inside may trace the descendants that agree to it, and no other process."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import AsyncIterator
from typing import Any

import pytest
from local.sandboxes import open_sandbox

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider

_PRELUDE = """
import ctypes, errno, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def ptrace(request, pid=0, address=0, data=0):
    result = libc.ptrace(ctypes.c_ulong(request), ctypes.c_long(pid), ctypes.c_ulong(address), data)
    return ctypes.get_errno() if result < 0 else 0
def traced():
    pid = os.fork()
    if pid == 0:
        os._exit(1) if ptrace(0) else signal.raise_signal(signal.SIGSTOP)
        libc.syscall(39)  # on x86_64: getpid
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), status
    return pid
"""


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[GuestSandbox]:
    """One sandbox with the real guest."""
    async with open_sandbox(LocalProvider) as (_, sandbox):
        yield sandbox


async def ask(box: GuestSandbox, program: str) -> Any:
    """Run a program inside that sets ``answer``, and return that."""
    result = await box.exec(["python3", "-I", "-c", _PRELUDE + program + "\nprint(json.dumps(answer))"])
    assert result.exit_code == 0, result.stderr.decode()
    return json.loads(result.stdout)


async def test_a_program_traces_its_own_child_to_the_end(box: GuestSandbox) -> None:
    answer = await ask(
        box,
        """
pid = traced()
answer = [ptrace(7, pid)]
answer.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    )
    assert answer == [0, 7]


@pytest.mark.parametrize("request_number", [16, 0x4206], ids=["attach", "seize"])
async def test_nothing_can_be_attached_to(box: GuestSandbox, request_number: int) -> None:
    answer = await ask(
        box,
        f"""
child = os.fork()
if child == 0:
    signal.pause()
answer = [ptrace({request_number}, pid) for pid in (1, os.getppid(), child)]
answer += [ptrace({request_number} | 1 << 32, 1)]
os.kill(child, signal.SIGKILL)
""",
    )
    assert answer == [errno.EPERM] * 4


async def test_no_request_reaches_the_guest_or_process_one(box: GuestSandbox) -> None:
    answer = await ask(
        box,
        """
buffer = ctypes.create_string_buffer(1 << 16)
answer = {}
for request in (*range(1, 64), *range(0x4200, 0x4300)):
    for pid in (1, os.getppid()):
        answer.setdefault(ptrace(request, pid, 0, buffer), []).append(request)
""",
    )
    assert set(answer) <= {str(errno.EPERM), str(errno.ESRCH)}


async def test_a_tracer_cannot_switch_the_filter_off(box: GuestSandbox) -> None:
    # PTRACE_O_SUSPEND_SECCOMP
    answer = await ask(
        box,
        """
pid = traced()
answer = ptrace(0x4200, pid, 0, ctypes.c_ulong(1 << 21))
os.kill(pid, signal.SIGKILL)
""",
    )
    assert answer in (errno.EPERM, errno.EINVAL)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="not in CI: the registers of x86_64")
async def test_a_tracer_cannot_change_a_call_behind_the_filter(box: GuestSandbox) -> None:
    answer = await ask(
        box,
        """
RAX, ORIG_RAX = 10, 15
registers = (ctypes.c_ulonglong * 27)()
pid = traced()
answer = [ptrace(24, pid)]  # run to the next system call
os.waitpid(pid, 0)
answer.append(ptrace(12, pid, 0, registers))
answer.append(registers[ORIG_RAX])
registers[ORIG_RAX] = 272  # unshare, which the filter refuses with EPERM; the kernel itself takes 0 flags
registers[14] = 0
answer.append(ptrace(13, pid, 0, registers))
answer.append(ptrace(24, pid))
os.waitpid(pid, 0)
ptrace(12, pid, 0, registers)
answer.append(ctypes.c_longlong(registers[RAX]).value)
os.kill(pid, signal.SIGKILL)
""",
    )
    assert answer == [0, 0, 39, 0, 0, -errno.EPERM]


@pytest.mark.parametrize("call", ["process_vm_readv", "process_vm_writev", "pidfd_getfd"])
async def test_other_ways_into_a_process_stay_refused(box: GuestSandbox, call: str) -> None:
    numbers = {"process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438)}
    number = numbers[call][0 if platform.machine() == "x86_64" else 1]
    answer = await ask(
        box,
        f"""
pid = traced()
libc.syscall({number}, pid, 0, 0, 0, 0, 0)
answer = ctypes.get_errno()
os.kill(pid, signal.SIGKILL)
""",
    )
    assert answer == errno.EPERM


@pytest.mark.parametrize("name", ["mem", "environ", "maps"])
async def test_the_guests_memory_cannot_be_opened(box: GuestSandbox, name: str) -> None:
    answer = await ask(
        box,
        f"""
try:
    with open(f"/proc/{{os.getppid()}}/{name}", "rb") as file:
        answer = len(file.read(1))
except OSError as error:
    answer = error.errno
""",
    )
    assert answer in (errno.EACCES, errno.EPERM)

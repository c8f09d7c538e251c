"""The system call filter of a local sandbox, as classic BPF made in pure Python.

Namespaces leave the whole kernel callable. The filter lets through what ``syscalls.ALLOWED`` names and
nothing else: what a developer's tools use, and of that no tracing of other processes, no namespaces, and no
socket family that a network namespace does not cover (AF_VSOCK reaches the hypervisor of a virtual machine).
Calls that are known and refused answer EPERM. Numbers that are not known, those of later kernels too, answer
ENOSYS, so that libraries use an older call.

Debuggers and sanitizers may trace what they start. Every ptrace request but TRACEME, ATTACH and SEIZE
acts on a process that the caller traces already (kernel/ptrace.c: ``ptrace_check_attach``; else ESRCH).
TRACEME takes no target: it hands the caller to its own parent. A fork, clone or exec of a traced process
is traced only when its tracer asked for that. So with ATTACH and SEIZE refused, a program traces its own
descendants that agreed, and nothing else: not the guest, the runner or process 1, which never call
TRACEME, and not a process of another user. ATTACH and SEIZE stay refused for all targets, because a
filter sees a process id and cannot know what it belongs to.

Until Linux 4.8 a tracer could change a system call after its filter had passed it (seccomp(2), NOTES).
No such kernel comes this far: a sandbox's keeper needs ``pidfd_open``, which is in Linux since 5.3.
PTRACE_O_SUSPEND_SECCOMP wants CAP_SYS_ADMIN in the first user namespace and a caller without a filter.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from dataclasses import dataclass

from agenthost.errors import IsolationUnavailableError
from agenthost.providers.local.syscalls import ALLOWED, REFUSED

# From linux/seccomp.h, linux/bpf_common.h and linux/audit.h.
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000
_UNKNOWN = _ERRNO | errno.ENOSYS
_LOAD = 0x20
_EQUAL = 0x15
_AT_LEAST = 0x35
_ANY_BIT = 0x45
_GO = 0x05
_RETURN = 0x06
_NR_OFFSET, _ARCH_OFFSET, _ARG0_OFFSET, _ARG1_OFFSET, _ARG2_OFFSET = 0, 4, 16, 24, 32

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME shares its bit with the exit signal.
_NEW_NAMESPACES = 0x7E020000
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # 16 is AF_NETLINK
_X32_BIT = 0x40000000

# From linux/ptrace.h and the asm/ptrace.h of both machines, which agree on all of these. Requests of one
# machine lie below _PTRACE_MACHINE_END, common ones from _PTRACE_COMMON to _PTRACE_COMMON_END. What later
# kernels add is refused, because a new request might choose a target.
_PTRACE_ATTACH, _PTRACE_SEIZE = 16, 0x4206
_PTRACE_MACHINE_END, _PTRACE_COMMON, _PTRACE_COMMON_END = 64, 0x4200, 0x4213

# From linux/personality.h: UNAME26, ADDR_NO_RANDOMIZE (gdb and sanitizers set it), PER_LINUX32 (setarch).
_PERSONALITY_BITS, _PERSONALITY_QUERY = 0x0006_0008, 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor: its column in the tables, and the numbers of calls that depend on arguments."""

    column: int
    audit_arch: int
    x32: bool
    ioctl: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    ptrace: int
    personality: int
    prlimit64: int


_MACHINES = {
    "x86_64": Machine(0, 0xC000003E, True, 16, 56, 435, 41, 53, 101, 135, 302),
    "aarch64": Machine(1, 0xC00000B7, False, 29, 220, 435, 198, 199, 117, 92, 261),
}


class _Program:
    """Instructions whose jumps name labels, turned into offsets at the end. All jumps lead forward."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str | None, str | None]] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self._code.append((_LOAD, offset, None, None))

    def jump(self, test: int, value: int, then: str | None = None, otherwise: str | None = None) -> None:
        """Jump when the test holds or does not; None goes on with the next instruction."""
        self._code.append((test, value, then, otherwise))

    def go(self, label: str) -> None:
        """Jump in any case, and farther than a test can."""
        self._code.append((_GO, 0, label, None))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def ret(self, name: str, value: int) -> None:
        self.label(name)
        self._code.append((_RETURN, value, None, None))

    def choose(self, starts: list[tuple[int, str]], name: str = "t") -> None:
        """Jump to the label of the last start that is not above the number, by halves."""
        if len(starts) == 1:
            self.go(starts[0][1])
            return
        middle = len(starts) // 2
        self.jump(_AT_LEAST, starts[middle][0], then=name + "1")
        self.choose(starts[:middle], name + "0")
        self.label(name + "1")
        self.choose(starts[middle:], name + "1")

    def assemble(self) -> bytes:
        out = bytearray()
        for position, (code, value, then, otherwise) in enumerate(self._code):
            jumps = [0 if name is None else self._labels[name] - position - 1 for name in (then, otherwise)]
            if code == _GO:
                value, jumps = jumps[0], [0, 0]
            out += struct.pack("=HBBI", code, jumps[0], jumps[1], value)
        return bytes(out)


def decisions(m: Machine) -> list[tuple[int, str]]:
    """Return from which number on which label decides; equal neighbours are one."""
    decided = {
        **{columns[m.column]: "eperm" for columns in REFUSED.values()},
        **{columns[m.column]: "allow" for columns in ALLOWED.values()},
        m.clone: "clone",
        m.ioctl: "ioctl",
        m.socket: "family",
        m.socketpair: "family",
        m.ptrace: "ptrace",
        m.personality: "personality",
        m.prlimit64: "prlimit",
        # Its flags are behind a pointer, out of a filter's sight. ENOSYS makes libraries use clone.
        m.clone3: "unknown",
    }
    numbers = sorted(number for number in decided if number is not None)
    starts = [(0, decided.get(0, "unknown"))]
    for number in range(1, numbers[-1] + 2):
        label = decided.get(number, "unknown")
        if label != starts[-1][1]:
            starts.append((number, label))
    if m.x32:
        starts.append((_X32_BIT, "kill"))
    return starts


def build_filter(machine: str | None = None) -> bytes:
    """Return the filter as an array of ``struct sock_filter``, ready for bubblewrap's ``--seccomp``.

    Args:
        machine: As ``platform.machine()`` tells it; None is this machine.

    Raises:
        IsolationUnavailableError: There are no system call numbers for this machine.
    """
    machine = platform.machine() if machine is None else machine
    if machine not in _MACHINES:
        raise IsolationUnavailableError(
            f"no system call filter for {machine} machines: the local sandbox runs on "
            f"{' and '.join(sorted(_MACHINES))}. Use another provider here."
        )
    m = _MACHINES[machine]
    p = _Program()
    p.load(_ARCH_OFFSET)
    # Another architecture means other numbers (int 0x80 on x86_64): nothing below would hold.
    p.jump(_EQUAL, m.audit_arch, then="ours")
    p.go("kill")
    p.label("ours")
    p.load(_NR_OFFSET)
    p.choose(decisions(m))
    p.label("clone")
    p.load(_ARG0_OFFSET)
    p.jump(_ANY_BIT, _NEW_NAMESPACES, then="eperm", otherwise="fine")
    p.label("ioctl")
    # The kernel reads 32 bits of the request, so do we: a set high half would walk around a 64-bit test.
    p.load(_ARG1_OFFSET)
    p.jump(_EQUAL, _TIOCSTI, then="eperm")
    p.jump(_EQUAL, _TIOCLINUX, then="eperm", otherwise="fine")
    p.label("ptrace")
    # The kernel compares all 64 bits of the request. Whatever equals ATTACH there does so in these 32, too.
    p.load(_ARG0_OFFSET)
    p.jump(_AT_LEAST, _PTRACE_COMMON_END, then="eperm")
    p.jump(_EQUAL, _PTRACE_SEIZE, then="eperm")
    p.jump(_AT_LEAST, _PTRACE_COMMON, then="fine")
    p.jump(_AT_LEAST, _PTRACE_MACHINE_END, then="eperm")
    p.jump(_EQUAL, _PTRACE_ATTACH, then="eperm", otherwise="fine")
    p.label("personality")
    p.load(_ARG0_OFFSET)
    p.jump(_EQUAL, _PERSONALITY_QUERY, then="fine")
    p.jump(_ANY_BIT, ~_PERSONALITY_BITS & 0xFFFF_FFFF, then="eperm", otherwise="fine")
    p.label("prlimit")
    # Of another process the bounds can be read, not set: the guest's are not the agent's to lower.
    p.load(_ARG0_OFFSET)
    p.jump(_EQUAL, 0, then="fine")
    p.load(_ARG2_OFFSET)
    p.jump(_EQUAL, 0, otherwise="eperm")
    p.load(_ARG2_OFFSET + 4)
    p.jump(_EQUAL, 0, then="fine", otherwise="eperm")
    p.label("family")
    p.load(_ARG0_OFFSET)
    for family in _FAMILIES:
        p.jump(_EQUAL, family, then="fine")
    p.ret("eafnosupport", _ERRNO | errno.EAFNOSUPPORT)
    p.label("fine")
    p.ret("allow", _ALLOW)
    p.ret("eperm", _ERRNO | errno.EPERM)
    p.ret("unknown", _UNKNOWN)
    p.ret("kill", _KILL_PROCESS)
    return p.assemble()

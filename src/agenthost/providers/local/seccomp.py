"""The system call filter of a local sandbox, as classic BPF made in pure Python.

Namespaces leave the whole kernel callable. The filter takes away what an agent does not need and what
has broken sandboxes before: tracing other processes, kernel keys, BPF, mounts, namespaces, io_uring, and
every socket family that a network namespace does not cover (AF_VSOCK reaches the hypervisor of a virtual
machine).

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

# From linux/seccomp.h, linux/bpf_common.h and linux/audit.h.
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000
_LOAD = 0x20
_EQUAL = 0x15
_AT_LEAST = 0x35
_ANY_BIT = 0x45
_RETURN = 0x06
_NR_OFFSET, _ARCH_OFFSET, _ARG0_OFFSET, _ARG1_OFFSET = 0, 4, 16, 24

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

# What answers EPERM. Numbers from the kernel's tables: (x86_64, aarch64). None: the machine has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "iopl": (172, None),
    "ioperm": (173, None),
}


@dataclass(frozen=True, slots=True)
class _Machine:
    column: int
    audit_arch: int
    x32: bool
    ioctl: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    ptrace: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, True, 16, 56, 435, 41, 53, 101),
    "aarch64": _Machine(1, 0xC00000B7, False, 29, 220, 435, 198, 199, 117),
}


class _Program:
    """Instructions whose jumps name labels, turned into offsets at the end."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str | None, str | None]] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self._code.append((_LOAD, offset, None, None))

    def jump(self, test: int, value: int, then: str | None = None, otherwise: str | None = None) -> None:
        """Jump when the test holds or does not; None goes on with the next instruction."""
        self._code.append((test, value, then, otherwise))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def ret(self, name: str, value: int) -> None:
        self.label(name)
        self._code.append((_RETURN, value, None, None))

    def assemble(self) -> bytes:
        out = bytearray()
        for position, (code, value, then, otherwise) in enumerate(self._code):
            jumps = [0 if name is None else self._labels[name] - position - 1 for name in (then, otherwise)]
            out += struct.pack("=HBBI", code, jumps[0], jumps[1], value)
        return bytes(out)


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
    p.jump(_EQUAL, m.audit_arch, otherwise="kill")
    p.load(_NR_OFFSET)
    if m.x32:
        p.jump(_AT_LEAST, _X32_BIT, then="kill")
    p.jump(_EQUAL, m.clone, then="clone")
    p.jump(_EQUAL, m.ioctl, then="ioctl")
    p.jump(_EQUAL, m.socket, then="family")
    p.jump(_EQUAL, m.socketpair, then="family")
    p.jump(_EQUAL, m.ptrace, then="ptrace")
    # Its flags are behind a pointer, out of a filter's sight. ENOSYS makes libraries use clone.
    p.jump(_EQUAL, m.clone3, then="enosys")
    for columns in REFUSED.values():
        number = columns[m.column]
        if number is not None:
            p.jump(_EQUAL, number, then="eperm")
    p.ret("allow", _ALLOW)
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
    p.label("family")
    p.load(_ARG0_OFFSET)
    for family in _FAMILIES:
        p.jump(_EQUAL, family, then="fine")
    p.ret("eafnosupport", _ERRNO | errno.EAFNOSUPPORT)
    p.ret("fine", _ALLOW)
    p.ret("eperm", _ERRNO | errno.EPERM)
    p.ret("enosys", _ERRNO | errno.ENOSYS)
    p.ret("kill", _KILL_PROCESS)
    return p.assemble()

"""The first program of a container: a filter that engines before 2023 lack, then the guest in its place.

It runs inside, on the standard library of any Python from 3.10: it is put there as it stands.

The default system call filter of those engines lets a container open AF_VSOCK sockets, which no network
namespace holds back: on a virtual machine they lead to its hypervisor. A second filter adds to the first.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_SET_SECCOMP, _FILTER = 22, 2
_AF_VSOCK = 40
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_X86_64, _I386, _AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
_NUMBER, _ARCH, _FAMILY = 0, 4, 16  # offsets in struct seccomp_data

_allow = (_RETURN, 0, 0, _ALLOW)

# (code, jump when true, jump when false, value); jumps count instructions from the next one on.
_PROGRAM = (
    (_LOAD, 0, 0, _ARCH),
    (_EQUAL, 4, 0, _X86_64),
    (_EQUAL, 6, 0, _AARCH64),
    (_EQUAL, 7, 0, _I386),
    _allow,
    _allow,
    # x86-64; its x32 calls have a bit of their own
    (_LOAD, 0, 0, _NUMBER),
    (_AND, 0, 0, 0xBFFFFFFF),
    (_EQUAL, 8, 7, 41),
    # arm64
    (_LOAD, 0, 0, _NUMBER),
    (_EQUAL, 6, 5, 198),
    # 32 bits: what goes by a pointer cannot be looked at; the C library then uses the plain call
    (_LOAD, 0, 0, _NUMBER),
    (_EQUAL, 1, 0, 102),
    (_EQUAL, 3, 2, 359),
    (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),
    _allow,
    _allow,
    # a socket's family
    (_LOAD, 0, 0, _FAMILY),
    (_EQUAL, 0, 1, _AF_VSOCK),
    (_RETURN, 0, 0, _REFUSE | errno.EAFNOSUPPORT),
    _allow,
)


def main() -> None:
    """Set the filter and become the program that the arguments name."""
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in _PROGRAM)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(_PROGRAM), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    # Without new privileges already: the container is started so.
    if libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system call filter was refused")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

"""The filter's decisions, on every architecture it is made for, by running it in a tiny interpreter."""

from __future__ import annotations

import errno
import struct

import pytest

from agenthost.errors import IsolationUnavailableError
from agenthost.providers.local.seccomp import build_filter
from agenthost.providers.local.syscalls import ALLOWED, REFUSED

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_NUMBERS = {
    "x86_64": {
        "read": 0,
        "exit_group": 231,
        "ioctl": 16,
        "socket": 41,
        "socketpair": 53,
        "clone": 56,
        "clone3": 435,
        "ptrace": 101,
        "personality": 135,
        "prlimit64": 302,
    },
    "aarch64": {
        "read": 63,
        "exit_group": 94,
        "ioctl": 29,
        "socket": 198,
        "socketpair": 199,
        "clone": 220,
        "clone3": 435,
        "ptrace": 117,
        "personality": 92,
        "prlimit64": 261,
    },
}


def decide(program: bytes, number: int, arch: int, *arguments: int) -> int:
    """Run classic BPF on one system call and return what it answers."""
    values = [argument & (1 << 64) - 1 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *values)
    code = list(struct.iter_unpack("<HBBI", program))
    position, accumulator = 0, 0
    while True:
        kind, then, otherwise, value = code[position]
        position += 1
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif kind == 0x06:
            return int(value)
        elif kind == 0x05:
            position += value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[kind]
            position += then if holds else otherwise


@pytest.fixture(params=sorted(_ARCH))
def machine(request: pytest.FixtureRequest) -> str:
    """Each machine in turn."""
    name: str = request.param
    return name


def test_every_refused_call_answers_eperm(machine: str) -> None:
    program = build_filter(machine)
    for columns in REFUSED.values():
        number = columns[_COLUMN[machine]]
        if number is not None:
            assert decide(program, number, _ARCH[machine]) == _ERRNO | errno.EPERM


def test_the_numbers_of_a_machine_are_not_twice_the_same(machine: str) -> None:
    listed = [columns[_COLUMN[machine]] for columns in (*REFUSED.values(), *ALLOWED.values())]
    by_arguments = [
        number for name, number in _NUMBERS[machine].items() if name not in ("read", "exit_group")
    ]
    numbers = [number for number in listed if number is not None] + by_arguments
    assert len(numbers) == len(set(numbers))


def test_allowed_calls_pass(machine: str) -> None:
    program = build_filter(machine)
    for columns in ALLOWED.values():
        number = columns[_COLUMN[machine]]
        if number is not None:
            assert decide(program, number, _ARCH[machine]) == _ALLOW
    # fork, as the C library does it, and a thread.
    for flags in (0x01200011, 0x003D0F00):
        assert decide(program, _NUMBERS[machine]["clone"], _ARCH[machine], flags) == _ALLOW


def test_all_other_numbers_are_unknown(machine: str) -> None:
    program = build_filter(machine)
    column = _COLUMN[machine]
    known = {columns[column] for columns in (*ALLOWED.values(), *REFUSED.values())}
    known |= set(_NUMBERS[machine].values())
    for number in (*range(2000), 0x3FFFFFFF):
        if number not in known:
            assert decide(program, number, _ARCH[machine]) == _ERRNO | errno.ENOSYS, number


def test_bounds_of_another_process_can_be_read_and_not_set(machine: str) -> None:
    program, number = build_filter(machine), _NUMBERS[machine]["prlimit64"]
    for pid, new, answer in (
        (0, 0x7FFF0000, _ALLOW),
        (1, 0, _ALLOW),
        (1, 0x7FFF0000, _ERRNO | errno.EPERM),
        (1, 1 << 32, _ERRNO | errno.EPERM),
    ):
        assert decide(program, number, _ARCH[machine], pid, 7, new) == answer


def test_of_the_personality_only_harmless_bits_can_be_set(machine: str) -> None:
    program, number = build_filter(machine), _NUMBERS[machine]["personality"]
    for wanted in (0, 8, 0x0040000, 0x0020000, 0xFFFFFFFF):
        assert decide(program, number, _ARCH[machine], wanted) == _ALLOW
    for wanted in (0x0400000, 0x0100000, 6, 0x0040000 | 1):
        assert decide(program, number, _ARCH[machine], wanted) == _ERRNO | errno.EPERM


def test_another_architecture_kills(machine: str) -> None:
    program = build_filter(machine)
    others = [0x40000003, 0x40000028, *(arch for name, arch in _ARCH.items() if name != machine)]
    assert {decide(program, _NUMBERS[machine]["read"], arch) for arch in others} == {_KILL}


def test_the_x32_numbers_kill_on_x86_64() -> None:
    assert decide(build_filter("x86_64"), 0x40000000, _ARCH["x86_64"]) == _KILL
    assert decide(build_filter("x86_64"), 0xFFFFFFFF, _ARCH["x86_64"]) == _KILL


def test_families_are_an_allow_list(machine: str) -> None:
    program = build_filter(machine)
    for call in ("socket", "socketpair"):
        number = _NUMBERS[machine][call]
        allowed = [f for f in range(64) if decide(program, number, _ARCH[machine], f) == _ALLOW]
        assert allowed == [1, 2, 10, 16]
        assert decide(program, number, _ARCH[machine], -1) == _ERRNO | errno.EAFNOSUPPORT
        # The kernel reads an int: what is above its 32 bits changes nothing.
        assert decide(program, number, _ARCH[machine], (7 << 32) | 40) == _ERRNO | errno.EAFNOSUPPORT


def test_terminal_injection_is_refused_whatever_the_high_half_of_the_request(machine: str) -> None:
    program = build_filter(machine)
    for request in (0x5412, 0x541C, (1 << 32) | 0x5412, (0xFFFF << 48) | 0x541C):
        answer = decide(program, _NUMBERS[machine]["ioctl"], _ARCH[machine], 0, request)
        assert answer == _ERRNO | errno.EPERM
    assert decide(program, _NUMBERS[machine]["ioctl"], _ARCH[machine], 0, 0x5413) == _ALLOW


def test_clone_makes_no_namespaces_and_clone3_is_unknown(machine: str) -> None:
    program = build_filter(machine)
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        answer = decide(program, _NUMBERS[machine]["clone"], _ARCH[machine], flag | 17)
        assert answer == _ERRNO | errno.EPERM
    assert decide(program, _NUMBERS[machine]["clone3"], _ARCH[machine]) == _ERRNO | errno.ENOSYS


def test_no_ptrace_request_chooses_its_target(machine: str) -> None:
    program = build_filter(machine)
    number, refused = _NUMBERS[machine]["ptrace"], _ERRNO | errno.EPERM
    # ATTACH, SEIZE, and numbers that no kernel uses today.
    for request in (16, 0x4206, 64, 0x41FF, 0x4213, 0x7FFFFFFF, 0xFFFFFFFF):
        assert decide(program, number, _ARCH[machine], request) == refused
        assert decide(program, number, _ARCH[machine], (1 << 32) | request) == refused
    # TRACEME, registers of one machine, memory tags of the other, DETACH, LISTEN, GET_SYSCALL_INFO.
    for request in (0, 1, 12, 15, 17, 24, 33, 34, 0x4200, 0x4205, 0x4207, 0x4208, 0x420E, 0x4212):
        assert decide(program, number, _ARCH[machine], request) == _ALLOW


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(IsolationUnavailableError, match="riscv64"):
        build_filter("riscv64")

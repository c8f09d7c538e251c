"""What a hostile program inside tries, and what it gets."""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from local.stand_in import StandIn, contents, is_part_of, processes_with, stand_in

from agenthost.providers.local.syscalls import REFUSED
from agenthost.spec import Mount, NetworkPolicy, SandboxSpec

_COLUMN = 0 if platform.machine() == "x86_64" else 1


@pytest.fixture(scope="module")
async def inside() -> AsyncIterator[StandIn]:
    """One sandbox for the attacks that leave it as it is."""
    os.environ["AGENTHOST_CANARY"] = "host-environment-canary"
    try:
        async with stand_in() as sandbox:
            yield sandbox
    finally:
        del os.environ["AGENTHOST_CANARY"]


async def ask(inside: StandIn, program: str) -> Any:
    """Run a program inside that sets ``answer``, and return that."""
    said = await inside.run("import errno, json, os, socket, sys\n" + program + "\nprint(json.dumps(answer))")
    try:
        return json.loads(said)
    except ValueError:
        pytest.fail(f"the program inside failed: {said}")


async def test_no_kernel_setting_can_be_written(inside: StandIn) -> None:
    writable = await ask(
        inside,
        """
answer = []
for folder, _, names in os.walk("/proc/sys"):
    for name in names:
        try:
            os.close(os.open(folder + "/" + name, os.O_WRONLY))
            answer.append(folder + "/" + name)
        except OSError:
            pass
for path in ("/proc/sysrq-trigger", "/proc/kcore", "/proc/kmsg", "/proc/kallsyms"):
    try:
        os.close(os.open(path, os.O_WRONLY))
        answer.append(path)
    except OSError:
        pass
""",
    )
    assert writable == []


async def test_the_core_pattern_stays_as_it_is(inside: StandIn) -> None:
    before = contents("/proc/sys/kernel/core_pattern")
    refused = await ask(
        inside,
        """
try:
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write("|/tmp/attack")
    answer = 0
except OSError as error:
    answer = error.errno
""",
    )
    assert refused in (errno.EROFS, errno.EACCES, errno.EPERM)
    assert contents("/proc/sys/kernel/core_pattern") == before


async def test_no_command_line_inside_tells_the_options_of_the_isolation(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        answer.append(file.read().decode())
""",
    )
    assert answer
    assert not [line for line in answer if "--args" in line or str(inside.directory) in line]


async def test_no_process_inside_has_anything_of_the_hosts_environment(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/environ", "rb") as file:
        answer[pid] = file.read().decode()
""",
    )
    assert answer
    assert not [pid for pid, text in answer.items() if "canary" in text]
    own = dict(line.split("=", 1) for text in answer.values() for line in text.split("\0") if line)
    usual = {"PATH", "HOME", "LANG", "USER", "PWD", "ASAN_OPTIONS", "LSAN_OPTIONS"}
    assert set(own) - {"LD_LIBRARY_PATH"} == usual


async def test_only_four_socket_families_exist(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = {}
for family in range(1, 47):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind).close()
            answer.setdefault(str(family), []).append(0)
        except OSError as error:
            answer.setdefault(str(family), []).append(error.errno)
""",
    )
    possible = {family for family, results in answer.items() if 0 in results}
    assert possible == {str(int(family)) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)}
    vsock = answer[str(int(socket.AF_VSOCK))]
    assert set(vsock) == {errno.EAFNOSUPPORT}


async def test_pairs_of_sockets_are_unix_only(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
pair = (ctypes.c_int * 2)()
answer = [libc.socketpair(family, 1, 0, pair) and ctypes.get_errno() for family in (1, 40)]
""",
    )
    assert answer == [0, errno.EAFNOSUPPORT]


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_a_dangerous_call_is_refused(inside: StandIn, name: str) -> None:
    number = REFUSED[name][_COLUMN]
    if number is None:
        pytest.skip("not in CI: this machine has no such call")
    answer = await ask(
        inside,
        f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
answer = [libc.syscall({number}, -1, 0, 0, 0, 0, 0), ctypes.get_errno()]
""",
    )
    assert answer == [-1, errno.EPERM]


@pytest.mark.parametrize(
    "flag", [0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
)
async def test_no_namespace_can_be_made_by_clone(inside: StandIn, flag: int) -> None:
    clone = 56 if _COLUMN == 0 else 220
    answer = await ask(
        inside,
        f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
pid = libc.syscall({clone}, {flag} | 17, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
answer = [pid, ctypes.get_errno()]
""",
    )
    assert answer == [-1, errno.EPERM]


async def test_clone3_is_unknown_so_that_libraries_use_clone(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
answer = [libc.syscall(435, 0, 0), ctypes.get_errno()]
import threading
thread = threading.Thread(target=answer.append, args=("a thread runs",))
thread.start()
thread.join()
""",
    )
    assert answer == [-1, errno.ENOSYS, "a thread runs"]


@pytest.mark.parametrize("high", [0, 1 << 32, 0xDEAD << 40])
async def test_nothing_can_be_typed_into_a_terminal(inside: StandIn, high: int) -> None:
    ioctl = 16 if _COLUMN == 0 else 29
    answer = await ask(
        inside,
        f"""
import ctypes, pty
libc = ctypes.CDLL(None, use_errno=True)
first, second = pty.openpty()
answer = []
for request in (0x5412, 0x541C):
    done = libc.syscall(ctypes.c_long({ioctl}), ctypes.c_long(second), ctypes.c_ulong({high} | request), b"x")
    answer.append([done, ctypes.get_errno()])
os.close(first)
os.close(second)
""",
    )
    assert answer == [[-1, errno.EPERM], [-1, errno.EPERM]]


@pytest.mark.skipif(_COLUMN != 0, reason="not in CI: x86_64 only")
@pytest.mark.parametrize("way", ["x32", "int80"])
async def test_calls_by_another_architectures_numbers_kill(inside: StandIn, way: str) -> None:
    answer = await ask(
        inside,
        f"""
import ctypes, mmap
pid = os.fork()
if pid == 0:
    if {way!r} == "x32":
        ctypes.CDLL(None).syscall(0x40000000 | 39)
    else:
        # mov eax, 20 (getpid of i386); int 0x80; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
answer = os.WTERMSIG(os.waitpid(pid, 0)[1])
""",
    )
    assert answer == 31  # SIGSYS


async def test_no_host_process_is_seen(inside: StandIn) -> None:
    answer = await ask(inside, 'answer = sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit())')
    assert answer == [1]


async def test_no_file_of_the_host_is_seen(inside: StandIn, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("of the host")
    looked = [
        str(canary),
        *_kept_from_sandboxes(inside),
        "/etc/shadow",
        "/etc/hostname",
        "/work",
    ]
    answer = await ask(
        inside,
        f"""
answer = [path for path in {looked!r} if os.path.exists(path)]
answer += [f"/proc/1/root{{path}}" for path in {looked!r} if os.path.exists("/proc/1/root" + path)]
answer += [f"/proc/1/cwd/..{{path}}" for path in {looked!r} if os.path.exists("/proc/1/cwd/.." + path)]
""",
    )
    assert answer == []


def _kept_from_sandboxes(inside: StandIn) -> list[str]:
    """Return what lies in the homes of the host's users, but for the way to its interpreter."""
    found: list[str] = []
    waiting = ["/root", str(Path.home())]
    while waiting:
        path = waiting.pop()
        if not any(f"{name}/".startswith(f"{path}/") for name in inside.host.interpreter.known_as):
            found.append(path)
        elif path not in inside.host.interpreter.known_as:
            waiting += [f"{path}/{name}" for name in os.listdir(path)]
    return found


async def test_nothing_but_its_own_places_can_be_written(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = {"yes": [], "no": []}
for folder in ("/", "/usr", "/usr/bin", "/etc", "/dev", "/opt", "/opt/agenthost", "/opt/agenthost/boot",
               "/opt/agenthost/site", "/opt/agenthost/python", "/var", "/run", "/home", "/proc", "/proc/1",
               "/tmp", "/var/tmp", "/dev/shm", "/workspace", "/home/agent", "/var/lib/agenthost"):
    path = folder + "/written-by-the-attack"
    try:
        with open(path, "w"):
            pass
        os.unlink(path)
        answer["yes"].append(folder)
    except OSError:
        answer["no"].append(folder)
""",
    )
    assert answer["yes"] == [
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/workspace",
        "/home/agent",
        "/var/lib/agenthost",
    ]


async def test_no_setuid_program_and_no_device_works_on_any_mount(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = []
for line in open("/proc/self/mountinfo"):
    fields = line.split()
    options = fields[5].split(",")
    if "nosuid" not in options and fields[4] != "/":
        answer.append(line)
    if "nodev" not in options and not fields[4].startswith("/dev/") and fields[4] not in ("/", "/proc"):
        answer.append(line)
""",
    )
    assert answer == []


async def test_it_has_no_capability_and_cannot_gain_one(inside: StandIn) -> None:
    answer = await ask(
        inside,
        """
answer = {key: value.strip() for key, value in (line.split(":", 1) for line in open("/proc/self/status"))}
""",
    )
    assert {int(answer[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (answer["NoNewPrivs"], answer["Seccomp"]) == ("1", "2")


async def test_it_is_an_ordinary_user_inside(inside: StandIn) -> None:
    answer = await ask(
        inside,
        "import pwd\nanswer = [os.getuid(), os.getgid(), pwd.getpwuid(os.getuid())[0], os.getcwd()]",
    )
    assert answer == [1000, 1000, "agent", "/workspace"]


async def test_no_open_file_of_the_host_comes_in() -> None:
    leaked = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        async with stand_in() as other:
            answer = await ask(
                other,
                """
answer = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        answer[fd] = os.readlink("/proc/self/fd/" + fd)
    except FileNotFoundError:
        pass  # the one that listed them
""",
            )
    finally:
        os.close(leaked)
    # stdin, stdout, stderr, the listening socket and this connection.
    assert sorted(int(fd) for fd in answer)[:3] == [0, 1, 2]
    kinds = sorted(target.partition(":")[0] for fd, target in answer.items() if int(fd) > 2)
    assert kinds == ["socket", "socket"]
    assert answer["0"] == "/dev/null"


@pytest.mark.skipif(os.geteuid() != 0, reason="not in CI: only a host that is root changes its user")
async def test_a_root_hosts_sandboxes_are_unprivileged_users_each_its_own(inside: StandIn) -> None:
    async with stand_in() as other:
        await ask(other, "answer = 0")
        owners = [
            {
                os.stat(f"/proc/{pid}").st_uid
                for pid in processes_with("stand_in.py")
                if is_part_of(sandbox, pid)
            }
            for sandbox in (inside, other)
        ]
        infos = [await sandbox.backend.info() for sandbox in (inside, other)]
    assert [len(owner) for owner in owners] == [1, 1]
    assert owners[0] != owners[1]
    assert all(61184 <= uid <= 65519 for owner in owners for uid in owner)
    assert [{int(info.resources["uid"])} for info in infos] == owners


async def test_without_a_network_nothing_of_the_host_is_reached(inside: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        program = f"""
answer = {{"interfaces": [name for _, name in socket.if_nameindex()]}}
try:
    socket.create_connection(("127.0.0.1", {port}), 5).close()
    answer["host"] = "reached"
except OSError as error:
    answer["host"] = error.errno
try:
    socket.create_connection(("192.0.2.1", 80), 5).close()
except OSError as error:
    answer["outside"] = error.errno
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), 5).close()
answer["own"] = "reached"
own.close()
"""
        closed = await ask(inside, program)
        async with stand_in(SandboxSpec(network=NetworkPolicy.open())) as other:
            opened = await ask(other, program.replace("192.0.2.1", "127.0.0.1"))
    assert closed == {
        "interfaces": ["lo"],
        "host": errno.ECONNREFUSED,
        "outside": errno.ENETUNREACH,
        "own": "reached",
    }
    assert opened["host"] == "reached"


async def test_an_open_network_has_what_names_need() -> None:
    async with stand_in(SandboxSpec(network=NetworkPolicy.open())) as other:
        answer = await ask(
            other, 'answer = [n for n in ("resolv.conf", "hosts") if os.path.exists("/etc/" + n)]'
        )
    assert answer == [name for name in ("resolv.conf", "hosts") if name in os.listdir("/etc")]


async def test_the_temporary_directory_has_its_size() -> None:
    async with stand_in(SandboxSpec(provider_options={"tmp_mib": 4})) as small:
        answer = await ask(
            small,
            """
try:
    with open("/tmp/big", "wb") as file:
        for _ in range(8):
            file.write(bytes(1 << 20))
            file.flush()
    answer = 0
except OSError as error:
    answer = error.errno
os.unlink("/tmp/big")
""",
        )
    assert answer == errno.ENOSPC


async def test_mounts_are_seen_but_not_changed(tmp_path: Path) -> None:
    # tmp_path is closed to other users: a sandbox of a root host is one.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("from the host")
    (tmp_path / "data" / "file").chmod(0o644)
    (tmp_path / "data").chmod(0o755)
    spec = SandboxSpec(
        mounts=(
            Mount(source=str(tmp_path / "data"), target="/data"),
            Mount(source=str(tmp_path / "data" / "file"), target="/srv/one.txt"),
        )
    )
    async with stand_in(spec) as sandbox:
        answer = await ask(
            sandbox,
            """
answer = [open("/data/file").read(), open("/srv/one.txt").read()]
for path in ("/data/file", "/data/new", "/srv/one.txt"):
    try:
        open(path, "w").close()
        answer.append(path)
    except OSError as error:
        answer.append(error.errno)
""",
        )
    assert answer == ["from the host"] * 2 + [errno.EROFS] * 3
    assert (tmp_path / "data" / "file").read_text() == "from the host"

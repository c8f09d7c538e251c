"""Looks around inside a sandbox. It is never imported: its text is piped to a Python in there.

Everything that is searched for arrives in hexadecimal, or the search would find itself. Each search also
looks for something that it planted; only one that finds it proves anything by finding nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import stat
import subprocess
import sys
from collections.abc import Generator, Iterator
from typing import BinaryIO

CHUNK = 4 * 1024 * 1024
# Mappings above this are read page by page: a garbage collector reserves many GiB that it never touches.
LARGE_MAPPING = 16 * 1024 * 1024
# Larger read-only files are programs and libraries.
LARGEST_READ_ONLY = 256 * 1024
CONNECT_SECONDS = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")

Hits = dict[str, set[str]]


class Search:
    """Looks for several byte strings at once, in all that this user can read."""

    def __init__(self, needles: dict[str, bytes]) -> None:
        self.needles = needles
        self.longest = max(map(len, needles.values()))
        self.hits: Hits = {name: set() for name in needles}
        self.processes = 0
        self.closed = 0
        self.files = 0

    def look_at(self, data: bytes, where: str) -> None:
        for name, needle in self.needles.items():
            if needle in data:
                self.hits[name].add(where)

    def look_at_stream(self, chunks: Iterator[bytes], where: str) -> None:
        rest = b""
        for chunk in chunks:
            self.look_at(rest + chunk, where)
            rest = chunk[-self.longest :]

    def look_at_processes(self) -> None:
        for name in os.listdir("/proc"):
            if name.isdigit():
                self.processes += 1
                self.look_at_process(int(name))

    def look_at_process(self, pid: int) -> None:
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    self.look_at(file.read(), f"{name} of process {pid}")
            except PermissionError:
                self.closed += 1
                return  # its environment is closed to us, and so is its memory
            except OSError:
                return  # it has ended
        if pid == os.getpid():
            return  # what is searched for is in the memory of who searches
        with contextlib.suppress(OSError):
            self.look_at_stream(memory_of(pid), f"memory of process {pid}")

    def look_at_files(self) -> set[str]:
        """Look into the files that this user could write or that are its own. Returns every file's name."""
        names: set[str] = set()
        own = os.getuid()
        for directory, directories, files in os.walk("/"):
            if directory == "/":
                directories[:] = [name for name in directories if name not in ("proc", "sys")]
            names.update(files)
            with contextlib.suppress(OSError):
                writable = not os.statvfs(directory).f_flag & os.ST_RDONLY
                # The machine's own programs are some hundred thousand files: they are looked at by name only.
                if writable or os.stat(directory).st_uid == own:
                    for name in files:
                        self.look_at_file(os.path.join(directory, name), writable)
        return names

    def look_at_file(self, path: str, writable: bool) -> None:
        try:
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode) or (info.st_size > LARGEST_READ_ONLY and not writable):
                return
            self.files += 1
            with open(path, "rb") as file:
                self.look_at_stream(iter(lambda: file.read(CHUNK), b""), f"file {path}")
        except OSError:
            return  # not for us to read


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield what a process has in memory, without the programs and libraries that are mapped into it."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        mappings = [line.split(None, 5) for line in file]
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
        for bounds, rights, _offset, _device, _inode, *name in mappings:
            if "r" not in rights or ("w" not in rights and name and name[0].startswith("/")):
                continue
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            for first, last in present(pagemap, start, end):
                for at in range(first, last, CHUNK):
                    try:
                        memory.seek(at)
                        yield memory.read(min(CHUNK, last - at))
                    except (OSError, OverflowError):
                        break  # unmapped meanwhile, or one of the kernel's own


def present(pagemap: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a mapping that are in memory."""
    if end - start <= LARGE_MAPPING:
        yield start, end
        return
    step = 1 << 20
    entries_per_step = step // 8
    for base in range(start // PAGE, end // PAGE, entries_per_step):
        count = min(entries_per_step, end // PAGE - base)
        pagemap.seek(base * 8)
        data = pagemap.read(count * 8)
        # Bits 63 and 62 of an entry: in memory, in swap. Entries are little-endian.
        for found in re.finditer(rb"(?s)(?:.{7}[\x40-\xff])+", data):
            if found.start() % 8 == 0:
                yield (base + found.start() // 8) * PAGE, (base + found.end() // 8) * PAGE


@contextlib.contextmanager
def planted(canary: bytes) -> Generator[str, None, None]:
    """Have the canary in an environment, a command line, a memory and a file. Yields the file's path."""
    text = canary.decode()
    program = (
        "import sys; kept = bytes.fromhex(sys.stdin.readline()); print(flush=True); sys.stdin.readline()"
    )
    path = os.path.abspath(f"canary-{secrets.token_hex(8)}")
    children: list[subprocess.Popen[bytes]] = []
    try:
        for arguments, environment, line in (
            ([], {"CANARY": text}, ""),
            ([text], {}, ""),
            ([], {}, canary.hex()),
        ):
            child = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            children.append(child)
            if child.stdin and child.stdout:
                child.stdin.write(line.encode() + b"\n")
                child.stdin.flush()
                child.stdout.readline()  # it has it now
        with open(path, "wb") as file:
            file.write(canary)
        yield path
    finally:
        for child in children:
            child.kill()
            child.communicate()
        with contextlib.suppress(OSError):
            os.unlink(path)


def connects(family: int, kind: int, address: tuple[object, ...]) -> bool:
    """Tell whether a connection can be made. A datagram socket asks for a route and sends nothing."""
    try:
        with socket.socket(family, kind) as sock:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address)
    except OSError:
        return False
    return True


def probe_network(host_port: int) -> dict[str, object]:
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    found: list[str] = []
    with open("/proc/net/dev", encoding="utf-8") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]
    found += [f"the interface {name}" for name in interfaces if name != "lo"]
    # Addresses kept free for documentation: nobody has them.
    if connects(socket.AF_INET, datagram, ("192.0.2.1", 9)):
        found.append("a route for IPv4")
    if connects(socket.AF_INET6, datagram, ("2001:db8::1", 9)):
        found.append("a route for IPv6")
    if connects(socket.AF_INET, stream, ("127.0.0.1", host_port)):
        found.append(f"port {host_port} of the host")
    with socket.create_server(("127.0.0.1", 0)) as server:
        control = connects(socket.AF_INET, stream, server.getsockname())
    return {
        "name": "network",
        "found": found,
        "control": control,
        "looked": "interfaces, routes, a port that the host listens at",
        "control_text": "it reaches a port opened inside",
    }


def probe_key(search: Search) -> dict[str, object]:
    kinds = {where.partition(" ")[0] for where in search.hits["canary"]}
    return {
        "name": "key",
        "found": sorted(search.hits["key"]),
        "control": kinds >= {"environ", "cmdline", "memory", "file"},
        "looked": (
            f"environment, command line and memory of {search.processes} processes"
            f" ({search.closed} closed to the agent), {search.files} files"
        ),
        "control_text": "it finds a canary in each of these places",
    }


def probe_host_files(
    search: Search, names: set[str], paths: list[str], control_path: str
) -> dict[str, object]:
    def visible(path: str) -> list[str]:
        roots = ["", *(f"/proc/{pid}/root" for pid in os.listdir("/proc") if pid.isdigit())]
        seen = [root + path for root in roots if readable(root + path)]
        return seen + ([f"a file named {os.path.basename(path)}"] if os.path.basename(path) in names else [])

    found = [where for path in paths for where in visible(path)]
    control = visible(control_path)
    return {
        "name": "host files",
        "found": [*found, *sorted(search.hits["host_file"])],
        # By its path, through /proc, and by its name in the walk.
        "control": len(control) >= 3,
        "looked": (
            f"{len(paths)} files planted on the host, by path, through /proc, by content, by name among"
            f" {len(names)}"
        ),
        "control_text": "it finds a file planted inside in each of these ways",
    }


def readable(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def main(parameters: str) -> None:
    given = json.loads(parameters)
    canary = secrets.token_hex(24).encode()
    search = Search(
        {"key": bytes.fromhex(given["key"]), "host_file": bytes.fromhex(given["content"]), "canary": canary}
    )
    with planted(canary) as control_path:
        search.look_at_processes()
        names = search.look_at_files()
        paths = [bytes.fromhex(path).decode() for path in given["paths"]]
        findings = [
            probe_key(search),
            probe_network(given["port"]),
            probe_host_files(search, names, paths, control_path),
        ]
    print(json.dumps(findings))

"""A root file system of this machine's Python, bash and a few tools: an image without a registry."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

_TOOLS = """
    bash sh cat chmod cp cut date dd df dirname echo env expr false find grep head id kill ln ls mkdir mktemp
    mv od printf ps pwd readlink rm rmdir sed seq sleep sort stat tail tar tee test touch tr true uname uniq
    wc which whoami
"""
# The claude binary and compiled packages need these beside what the tools have.
_LIBRARIES = ("libgcc_s.so.1", "libstdc++.so.6", "librt.so.1", "libdl.so.2", "libpthread.so.0", "libm.so.6")
_UNUSED = {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__"}
_PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"


def build_base_image(*, without: tuple[str, ...] = ()) -> bytes:
    """Return a tar archive. ``without`` names tools that are left out; ``python3`` is one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        done: set[str] = set()
        for folder in ("tmp", "root", "etc", "proc", "sys", "dev", "var", "usr/bin", "usr/local/bin"):
            _directory(archive, folder, 0o1777 if folder == "tmp" else 0o755)
        _link(archive, "bin", "usr/bin")
        for name, text in (("etc/passwd", _PASSWD), ("etc/group", "root:x:0:\nnogroup:x:65534:\n")):
            _text(archive, name, text)
        for tool in _TOOLS.split():
            path = shutil.which(tool)
            if path and tool not in without:
                _program(archive, path, f"usr/bin/{tool}", done)
        if "python3" not in without:
            _python(archive, done)
    return buffer.getvalue()


def with_files(archive: bytes, files: dict[str, bytes]) -> bytes:
    """Return an archive with more in it."""
    buffer = io.BytesIO(archive)
    with tarfile.open(fileobj=buffer, mode="a") as added:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            added.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def sdk_by_name() -> dict[str, bytes]:
    """Return the files by which an image has the SDK, as far as anybody asks who hosts no agent."""
    place = f"usr/local/lib/python3.{sys.version_info.minor}/site-packages"
    meta = b"Metadata-Version: 2.1\nName: claude-agent-sdk\nVersion: 0.2.187\n"
    return {
        f"{place}/claude_agent_sdk/__init__.py": b"",
        f"{place}/claude_agent_sdk-0.2.187.dist-info/METADATA": meta,
    }


def _python(archive: tarfile.TarFile, done: set[str]) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary = Path(os.path.realpath(sys.executable))
    if not binary.is_relative_to(os.path.realpath(sys.base_prefix)):
        binary = Path(sys.base_prefix, "bin", version)
    _program(archive, str(binary), f"usr/local/bin/{version}", done)
    _link(archive, "usr/local/bin/python3", version)
    stdlib = sysconfig.get_path("stdlib")

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        # Byte code is left where it lies: compiling the stdlib at each start would take seconds.
        name = entry.name.rpartition("/")[2]
        if name in _UNUSED - {"__pycache__"} or name.startswith("config-") or name.endswith(".a"):
            return None
        entry.uid = entry.gid = 0
        return entry

    archive.add(stdlib, f"usr/local/lib/{version}", filter=wanted)
    for path in Path(stdlib, "lib-dynload").glob("*.so"):
        _libraries(archive, str(path), done)


def _program(archive: tarfile.TarFile, path: str, name: str, done: set[str]) -> None:
    _file(archive, path, name)
    _libraries(archive, path, done)
    for library in _LIBRARIES:
        found = Path("/lib", f"{os.uname().machine}-linux-gnu", library)
        if found.exists() and str(found) not in done:
            done.add(str(found))
            _file(archive, str(found), str(found).lstrip("/"))


def _libraries(archive: tarfile.TarFile, path: str, done: set[str]) -> None:
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        found = next((word for word in line.split() if word.startswith("/")), None)
        if found and found not in done:
            done.add(found)
            _file(archive, found, found.lstrip("/"))


def _file(archive: tarfile.TarFile, path: str, name: str) -> None:
    entry = archive.gettarinfo(os.path.realpath(path), name)
    entry.uid = entry.gid = 0
    entry.mode &= 0o755  # no setuid
    if entry.islnk():
        entry.type, entry.linkname = tarfile.REGTYPE, ""
        entry.size = os.stat(path).st_size
    with open(path, "rb") as content:
        archive.addfile(entry, content)


def _text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    archive.addfile(entry, io.BytesIO(text.encode()))


def _directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)

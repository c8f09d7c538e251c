"""What is put into a sandbox: two zipapps and a configuration that lets nobody in."""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from types import CodeType

from agenthost.adapter.stripping import strip_source
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can tell: archives are equal byte for byte
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # a .pyc that is never compared with its source
_GUEST = ("wire", "guest")
_HTTP = ("guest/http",)
_RUNNER = ("wire", "runner")
# The guest never needs these; without them it fits one buffered exec (48 KiB).
_HOST_ONLY = ("agenthost/wire/host.py", "agenthost/wire/codec.py")

# The archive's own agenthost, even where a complete one is installed beside the SDK.
_MAIN = """\
import sys
package = sys.modules["agenthost"] = type(sys)("agenthost")
package.__path__ = [sys.path[0] + "/agenthost"]
from {main} import main
sys.exit(main())
"""


@cache
def guest_zipapp(*, compiled: bool = False) -> bytes:
    """Return the guest. ``compiled`` adds byte code for this Python; another one reads the source."""
    return _zipapp(_GUEST, "agenthost.guest.__main__", compiled=compiled)


@cache
def http_archive(*, compiled: bool = False) -> bytes:
    """Return what a guest with a port has in addition."""
    return _zipapp(_HTTP, None, compiled=compiled)


@cache
def runner_zipapp(*, compiled: bool = False) -> bytes:
    """Return the runner."""
    return _zipapp(_RUNNER, "agenthost.runner.__main__", compiled=compiled)


def make_boot(
    layout: GuestLayout,
    *,
    control_verifier: str,
    guest_key: bytes | None,
    env: Mapping[str, str],
    lifetime: float | None,
    agent: Mapping[str, object] | None,
    compiled: bool,
    needs_sdk: bool = False,
    on_progress: Callable[[str], object] | None = None,
) -> Boot:
    """Return what must be put into a sandbox.

    Args:
        layout: Where things are inside.
        control_verifier: What the guest keeps of the control token.
        guest_key: What proves the guest to its hosts; None where only they can reach its socket.
        env: Added to the environment of every program.
        lifetime: Seconds from the guest's start.
        agent: An agent to be started with the guest, as the parameters of the call ``start``.
        compiled: Add byte code for this Python.
        needs_sdk: See Boot; an ``agent`` needs it in any case.
        on_progress: See Boot.
    """
    config: dict[str, object] = {
        "control_verifier": control_verifier,
        "guest_key": None if guest_key is None else guest_key.hex(),
        "workdir": layout.workdir,
        "spool_dir": layout.spool_dir,
        "env": dict(env),
        "lifetime": lifetime,
        "agent": agent,
    }
    files = {"guest.pyz": guest_zipapp(compiled=compiled), "runner.pyz": runner_zipapp(compiled=compiled)}
    if layout.port is not None:
        if guest_key is None:
            raise ValueError("a port needs the guest's key: `private_socket` is for sockets alone")
        config["http"] = {"address": layout.address, "port": layout.port}
        files["http.pyz"] = http_archive(compiled=compiled)
    return Boot(
        files={**files, "boot.json": json.dumps(config).encode()},
        config=config,
        needs_sdk=needs_sdk or agent is not None,
        on_progress=on_progress,
    )


def _zipapp(packages: tuple[str, ...], main: str | None, *, compiled: bool) -> bytes:
    buffer = io.BytesIO()
    # Byte code is for a sandbox on this machine: reading it must be fast, its size does not matter.
    method = zipfile.ZIP_STORED if compiled else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=9) as archive:
        if main is not None:
            _add(archive, "__main__.py", _MAIN.format(main=main).encode(), None, compiled=compiled)
        for folder in _folders(packages):
            # Without an entry of its own zipimport does not see a package that has no __init__.
            archive.writestr(_entry(folder + "/", zipfile.ZIP_STORED), b"")
        for name, source, path in sorted(_sources(packages)):
            if packages == _GUEST and name in _HOST_ONLY:
                continue
            _add(archive, name, source, path, compiled=compiled)
    return buffer.getvalue()


def _folders(packages: tuple[str, ...]) -> list[str]:
    paths = [PurePosixPath("agenthost", package) for package in packages]
    return sorted({str(folder) for path in paths for folder in (path, *path.parents)} - {"."})


def _sources(packages: tuple[str, ...]) -> Iterator[tuple[str, bytes, str]]:
    root = files("agenthost")
    for package in packages:
        for entry in root.joinpath(package).iterdir():
            if entry.name.endswith(".py"):
                yield f"agenthost/{package}/{entry.name}", entry.read_bytes(), _path_of(entry)


def _path_of(entry: Traversable) -> str:
    return str(entry) if isinstance(entry, Path) else ""


def _add(archive: zipfile.ZipFile, name: str, source: bytes, path: str | None, *, compiled: bool) -> None:
    # Without byte code it is sent somewhere, and every byte of it counts.
    text = source if compiled else strip_source(source)
    archive.writestr(_entry(name, archive.compression), text)
    if compiled:
        code = _code(source, name, path)
        archive.writestr(
            _entry(name + "c", archive.compression), importlib.util.MAGIC_NUMBER + _UNCHECKED + code
        )


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    return entry


def _code(source: bytes, name: str, path: str | None) -> bytes:
    """Return byte code; what this Python has compiled before is used again."""
    if path:
        cached = Path(importlib.util.cache_from_source(path))
        try:
            data = cached.read_bytes()
            status = Path(path).stat()
        except OSError:
            pass  # not compiled yet
        else:
            expected = importlib.util.MAGIC_NUMBER + bytes(4)
            expected += (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
            expected += (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
            if data[:16] == expected:
                return _anonymous(data[16:], name)
    return _anonymous(marshal.dumps(compile(source, name, "exec", dont_inherit=True)), name)


def _anonymous(data: bytes, name: str) -> bytes:
    """Return byte code that tells nothing of where it was compiled: so it is the same from everywhere."""

    def renamed(code: CodeType) -> CodeType:
        constants = (renamed(item) if isinstance(item, CodeType) else item for item in code.co_consts)
        return code.replace(co_filename=name, co_consts=tuple(constants))

    return marshal.dumps(renamed(marshal.loads(data)))

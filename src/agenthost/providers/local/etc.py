"""The part of the host's /etc that a sandbox sees: certificates and configuration that the world may read.

The mode of a file must keep it out, not the sandbox's user alone: the supplementary groups of an ordinary
user's host stay with its sandboxes, since only root may drop groups.
"""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

# By custom a place for private keys. Left out even where it is open: a key may be added while a sandbox runs.
_PRIVATE = "private"
_NAMES = (
    *("ssl/certs", "ssl/cert.pem", "ssl/ca-bundle.pem", "ssl/openssl.cnf", "ca-certificates"),
    *("pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "pki/tls/openssl.d"),
    *("pki/ca-trust/extracted", "pki/java/cacerts", "crypto-policies"),
    *("alternatives", "localtime", "ld.so.cache"),
)
_NETWORK_NAMES = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "host.conf", "services", "protocols")
# Parts of /usr that hold a vendor's or the administrator's configuration, like /etc.
_LIKE_ETC = ("usr/etc", "usr/local/etc")

# Links of /usr into these are not followed: certificates are chosen above, and the environment of the
# host's sessions may hold tokens.
_NOT_LINKED = ("ssl", "pki", "environment", "environment.d")
# Directories of /usr by name that hold no program's configuration, and most of /usr's files.
_SKIPPED = frozenset(
    (
        *("doc", "man", "info", "help", "icons", "fonts", "zoneinfo", "include", "src", "debug", "games"),
        *("modules", "firmware", "node_modules", "site-packages", "dist-packages", "perl5", "__pycache__"),
    )
)


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is at the same place inside.

    Attributes:
        target: Absolute path inside.
        source: Its path on the host; None for a symbolic link.
        link: What the link says; None for what is bound.
    """

    target: str
    source: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class EtcView:
    """What a sandbox sees of /etc.

    Attributes:
        always: Parts that every sandbox has.
        network: Parts that only those with the host's network have.
        replaced: Directories of /usr that are replaced by their parts, which are in ``always``.
    """

    always: tuple[Part, ...]
    network: tuple[Part, ...]
    replaced: tuple[str, ...]


_scans = threading.Lock()


def find_etc(root: str = "/") -> EtcView:
    """Return what of ``root`` a sandbox may see now.

    The first call of a process looks for links in all of /usr, which takes some tenths of a second: call
    this in a thread. Software installed later is seen by later processes. Modes are read at each call.
    """
    chosen = [part for name in _NAMES for part in _public_parts(root, f"/etc/{name}")]
    replaced: list[str] = []
    for name in _LIKE_ETC:
        parts = list(_public_parts(root, f"/{name}"))
        if os.path.isdir(posixpath.join(root, name)) and [part.target for part in parts] != [f"/{name}"]:
            replaced.append(f"/{name}")
            chosen += parts
    seen = {f"/etc/{name}" for name in _NAMES}
    for target in _linked(root):
        # What is there already is there with all below it, and directories come before their files.
        if not any(target == path or target.startswith(path + "/") for path in seen):
            seen.add(target)
            chosen += _public_parts(root, target)
    network = [part for name in _NETWORK_NAMES for part in _public_parts(root, f"/etc/{name}")]
    return EtcView(tuple(chosen), tuple(network), tuple(replaced))


def _public_parts(root: str, target: str) -> Iterator[Part]:
    """Yield ``target`` whole where the world may read all of it, else those of its parts that it may."""
    source = os.path.realpath(posixpath.join(root, target[1:]))
    if _is_open_way(root, source):
        yield from _parts(source, target)


def _parts(source: str, target: str) -> list[Part]:
    if _PRIVATE in target.split("/"):
        return []
    try:
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode):
            return [Part(target, link=os.readlink(source))]
        if stat.S_ISREG(mode):
            return [Part(target, source)] if mode & stat.S_IROTH else []
        if not stat.S_ISDIR(mode) or mode & 0o005 != 0o005:
            return []
        names = sorted(os.listdir(source))
    except (FileNotFoundError, PermissionError):
        return []  # it has gone, or it is closed even to the host
    below = [_parts(f"{source}/{name}", f"{target}/{name}") for name in names]
    whole = all(
        [part.target for part in parts] == [f"{target}/{name}"]
        for name, parts in zip(names, below, strict=True)
    )
    return [Part(target, source)] if whole else [part for parts in below for part in parts]


def _is_open_way(root: str, source: str) -> bool:
    """Tell whether the world may enter all directories from ``root`` to ``source``."""
    base, parent = os.path.realpath(root), posixpath.dirname(source)
    while parent not in (base, "/"):
        try:
            if not os.stat(parent).st_mode & stat.S_IXOTH:
                return False
        except (FileNotFoundError, PermissionError):
            return False
        parent = posixpath.dirname(parent)
    return True


def _linked(root: str) -> tuple[str, ...]:
    with _scans:  # a second caller waits for the first one's answer
        return _scan(root)


@lru_cache(maxsize=8)
def _scan(root: str) -> tuple[str, ...]:
    return tuple(sorted(set(_links_into_etc(root))))


def _links_into_etc(root: str) -> Iterator[str]:
    """Yield the places in /etc that links in /usr lead to."""
    waiting = ["/usr"]
    while waiting:
        directory = waiting.pop()
        try:
            entries = os.scandir(posixpath.join(root, directory[1:]))
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                if entry.is_symlink():
                    target = _target_in_etc(f"{directory}/{entry.name}", entry.path)
                    if target is not None:
                        yield target
                elif entry.name not in _SKIPPED and entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{directory}/{entry.name}")


def _target_in_etc(link: str, path: str) -> str | None:
    try:
        text = os.readlink(path)
    except FileNotFoundError:
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(link), text))
    if not target.startswith("/etc/"):
        return None
    return None if target.split("/")[2] in _NOT_LINKED else target

"""Tests talk to nobody but this machine: any other address is refused, and the test that tried it fails.

An audit hook sees every socket of this process, whichever library made it. Programs that a test starts are
not seen: the ones inside a sandbox have no network, and the CLI is pointed at loopback. ``--live`` lifts it.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import cast

import pytest

_WATCHED = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo"}
_ALLOWED_NAMES = {"", "localhost", "ip6-localhost"}

_refused: list[str] = []


class NetworkRefusedError(RuntimeError):
    """A test tried to reach another machine. Not an OSError, so that no retry swallows it."""


def is_loopback(host: object) -> bool:
    """Tell whether a host, a name or an address, is this machine."""
    if host is None:
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
    if text.lower() in _ALLOWED_NAMES:
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _check(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _WATCHED:
        return
    if event == "socket.getaddrinfo":
        host: object = arguments[0]
    else:
        family = getattr(arguments[0], "family", None)
        address = arguments[1]
        if family in (socket.AF_UNIX, socket.AF_NETLINK) or address is None:
            return
        host = cast("tuple[object, ...]", address)[0] if isinstance(address, tuple) else address
        if host == "":
            host = "0.0.0.0"  # what bind("") means: every interface
    if not is_loopback(host):
        _refused.append(f"{event} {host!r}")
        raise NetworkRefusedError(f"tests may only reach loopback, not {host!r} ({event})")


def pytest_configure(config: pytest.Config) -> None:
    """Watch from before the first test module is imported. A hook cannot be taken out again."""
    if not config.getoption("--live", None):
        sys.addaudithook(_check)


@pytest.fixture(autouse=True)
def refuses_other_machines() -> Iterator[list[str]]:
    """Fail the test that tried to reach another machine, also when something swallowed the refusal."""
    _refused.clear()
    yield _refused
    tried = ", ".join(_refused)
    _refused.clear()
    if tried:
        pytest.fail(f"tried to reach another machine: {tried}")

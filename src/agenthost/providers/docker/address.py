"""Where the container engine is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from agenthost.errors import ConfigError, UnsupportedError

_SOCKETS = ("/var/run/docker.sock", "{runtime}/docker.sock")  # the second is a rootless engine's
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}


@dataclass(frozen=True, slots=True)
class Address:
    """A unix socket, or a port of this machine.

    Attributes:
        path: Of the unix socket; None for a port.
        host: Of the port; a loopback address.
        port: TCP port; 0 for a unix socket.
    """

    path: str | None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        """Return it as DOCKER_HOST has it."""
        return f"unix://{self.path}" if self.path is not None else f"tcp://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """What requests begin with."""
        if self.path is not None:
            return "http://engine"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def find_address(host: str | None) -> Address:
    """Return where the engine is: ``host``, else DOCKER_HOST, else the usual socket.

    Raises:
        ConfigError: It is no address.
        UnsupportedError: It is another machine's.
    """
    text = host or os.environ.get("DOCKER_HOST")
    if not text:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "/run/user/none")
        paths = [path.format(runtime=runtime) for path in _SOCKETS]
        return Address(next((path for path in paths if os.path.exists(path)), paths[0]))
    parts = urlsplit(text)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return Address(parts.path)
    if parts.scheme not in ("tcp", "http") or not parts.hostname:
        raise ConfigError(
            f"DOCKER_HOST {text!r}: known are unix:///path/of/a/socket and tcp://127.0.0.1:port"
        )
    address = _LOOPBACK.get(parts.hostname)
    if address is None:
        raise UnsupportedError(
            f"DOCKER_HOST {text!r} is another machine: forward its socket to this one, "
            f"by ssh -L for instance, and give unix:// or tcp://127.0.0.1"
        )
    try:
        return Address(None, address, parts.port or 2375)
    except ValueError as exc:
        raise ConfigError(f"DOCKER_HOST {text!r}: {exc}") from exc

"""A real sshd on a port of loopback, with keys of its own, for as long as a test takes."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from support.processes import wait_until_gone

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_NEEDS = ("sshd", "ssh", "ssh-keygen", "unshare")
_ENDING = 20.0  # seconds that what is about to end may take
_TRIES = 5  # at a port that is free
# As root sshd wants a directory below /run, which its package makes when the machine starts.
_HIDE = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$0" "$@"'
_CONF = """
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
AuthenticationMethods publickey
PidFile none
StrictModes no
UsePAM no
MaxStartups 100
"""


@contextlib.contextmanager
def ssh_server(directory: Path) -> Generator[list[str]]:
    """Run it in the block and yield the command that reaches it; skip the test where there is none.

    Nobody's configuration or keys are read. When the block is left, no connection may be open any more.
    """
    missing = [name for name in _NEEDS if shutil.which(name, path=_PLACES) is None]
    if missing:
        pytest.skip(f"not in CI: {', '.join(missing)} is missing; apt-get install openssh-server")
    for name in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(directory / name)]
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    (directory / "conf").write_text(_CONF.format(directory=directory))
    process, port = _start(directory)
    try:
        known = directory / "known"
        known.write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
        options = {"BatchMode": "yes", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes"}
        options |= {"UserKnownHostsFile": str(known), "GlobalKnownHostsFile": os.devnull}
        command = ["ssh", "-F", os.devnull, "-i", str(directory / "user"), "-p", str(port)]
        command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        yield [*command, f"{getpass.getuser()}@127.0.0.1"]
        wait_until_gone(_connections(process.pid), _ENDING)
        assert not _connections(process.pid), "a connection is still open"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    sshd = shutil.which("sshd", path=_PLACES) or ""  # it wants its absolute path
    apart = ["unshare", "--mount", "sh", "-c", _HIDE] if os.geteuid() == 0 else []
    said = b""
    for _ in range(_TRIES):
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = int(found.getsockname()[1])
        argv = [*apart, sshd, "-D", "-e", "-f", str(directory / "conf"), "-p", str(port)]
        log = directory / f"log-{port}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        while process.poll() is None:
            said = log.read_bytes()
            if b"Server listening" in said:
                return process, port
            wait_until_gone([process.pid], 0.02)  # it tells nobody but its log
    raise AssertionError(f"sshd did not start: {said.decode(errors='replace')}")


def _connections(pid: int) -> list[int]:
    """Return the processes that serve one each."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

"""A container engine for tests: the one that answers, else a private one that ends with the run."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docker.base_image import build_base_image

_START = 60.0  # seconds until a private engine answers
_STOP = 60.0
BASE = "agenthost-test/base:latest"


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """An engine that answers.

    Attributes:
        host: Its address, as DOCKER_HOST has it.
        private: Whether this run started it: nobody else's containers are there, and it is on this machine.
        base: An image with a Python, bash and a few tools; no SDK.
    """

    host: str
    private: bool
    base: str = BASE


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(host: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Ask an engine. Apart from the code under test on purpose. OSError when none answers."""
    parts = urlsplit(host)
    connection: http.client.HTTPConnection
    if parts.scheme == "unix":
        connection = _UnixConnection(parts.path)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 2375, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def needs_its_files(engine: DockerEngine) -> None:
    """Skip the test where the engine's files cannot be looked into."""
    if not engine.private:
        pytest.skip("not in CI: the engine's files may be another machine's")


def _answers(host: str) -> bool:
    try:
        return ask(host, "GET", "/_ping")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """Give an engine that answers, with the base image; skip with what is missing."""
    asked_for = os.environ.get("DOCKER_HOST")
    host = asked_for or "unix:///var/run/docker.sock"
    if _answers(host):
        provide_image(host, BASE, build_base_image)
        yield DockerEngine(host, private=False)
    elif asked_for:
        pytest.fail(f"DOCKER_HOST is {asked_for}, and no engine answers there", pytrace=False)
    elif os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("unshare") is None:
        pytest.skip(
            "no container engine answers, and none can be started: as root, apt-get install docker.io "
            "(scripts/test --full does that), or set DOCKER_HOST"
        )
    else:
        with _private_engine() as host:
            provide_image(host, BASE, build_base_image)
            yield DockerEngine(host, private=True)


@contextlib.contextmanager
def _private_engine() -> Generator[str]:
    """Run dockerd."""
    directory = engine_directory("dockerd-")
    group = f"agenthost-dockerd-{os.getpid()}"
    host = f"unix://{directory}/sock"
    argv = ["dockerd", "--host", host, "--pidfile", f"{directory}/pid"]
    argv += ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec"]
    argv += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--userland-proxy=false"]
    argv += [f"--cgroup-parent=/{group}"]
    try:
        with running(argv, host, directory):
            yield host
    finally:
        remove_groups(group)


def engine_directory(prefix: str) -> Path:
    """Make a directory for all that an engine writes; ``running`` removes it."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o711)  # a sandbox's user passes through it
    return directory


@contextlib.contextmanager
def running(
    argv: list[str],
    host: str,
    directory: Path,
    *,
    apart: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Generator[None]:
    """Run an engine in a network and a mount namespace of its own: bridges and mounts end with it.

    Args:
        argv: Its command.
        host: Where it will answer.
        directory: Where it writes all that it writes.
        apart: More for ``unshare``.
        env: Variables beside those of this process.
    """
    log = directory / "log"
    # It serves many tests: those that look for what one of them has left must not find it. That it goes in
    # the end is seen by the directory that its command line names.
    own = {name: value for name, value in os.environ.items() if name != "AGENTHOST_TEST_RUN"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", *apart, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=directory,
            env={**own, **(env or {})},
        )
    try:
        _wait_until_it_answers(process, host, log)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # it ends its containers and its containerd
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(directory)


def _wait_until_it_answers(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    # An engine makes its socket before it answers, and tells nobody when it does.
    pidfd = os.pidfd_open(process.pid)
    try:
        for _ in range(int(_START / 0.1)):
            if _answers(host):
                return
            if select.select([pidfd], [], [], 0.1)[0]:
                break
    finally:
        os.close(pidfd)
    pytest.fail(f"the engine did not start; its log ends: {log.read_text()[-2000:]}", pytrace=False)


def remove_groups(name: str, *, shared: bool = False) -> None:
    """Remove the control groups that the engine made for its containers; ``shared``: but not another's."""
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        if name in names:
            for inner, _, _ in os.walk(os.path.join(directory, name), topdown=False):
                try:
                    os.rmdir(inner)
                except OSError:
                    if not shared:
                        raise
            names.remove(name)


def provide_image(host: str, image: str, build: Callable[[], bytes]) -> None:
    """Have an engine have an image of this name and archive."""
    if ask(host, "GET", f"/images/{image}/json")[0] == 200:
        return
    name, _, tag = image.partition(":")
    status, said = ask(host, "POST", f"/images/create?fromSrc=-&repo={name}&tag={tag}", build())
    if status != 200 or b'"error"' in said:
        pytest.fail(f"the image {image} could not be made: {said.decode()}", pytrace=False)

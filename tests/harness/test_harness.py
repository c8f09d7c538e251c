"""The rules that every run of the tests is held to, each broken once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.loopback_guard import NetworkRefusedError, is_loopback
from support.reporting import BUDGETS, FOR_ATTACKS, FOR_ONE_MORE, FOR_TWO_CLOUDS

from agenthost.testing.emulators.base.about import emulator_names

SUPPORT = Path(__file__).parent.parent
PLUGINS = [
    *("-p", "support.leftovers", "-p", "support.loopback_guard"),
    *("-p", "support.processor_time", "-p", "support.reporting"),
]


def run(directory: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under the rules, in a process of its own."""
    (directory / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, *PLUGINS, "-q", "--rootdir", str(directory)]
    env = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    return subprocess.run(
        [*command, *arguments, str(directory / "test_inner.py")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


LEAKING = """
import os, socket, subprocess
from pathlib import Path

state = os.environ["AGENTHOST_STATE_DIR"]
kept = []

def start(**options):
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, **options)
    Path(os.environ["PIDS"]).open("a").write(f"{process.pid}\\n")
    kept.append(process)

def test_marked():
    start()

def test_without_environment():
    start(env={}, cwd=state)

def test_with_a_file_open():
    with open(state + "/secret", "w") as file:
        start(env={}, cwd="/", pass_fds=[file.fileno()])

def test_ended():
    process = subprocess.Popen(["sleep", "600"])
    process.kill()
    process.wait()

def test_sandbox():
    Path(state, "local", "ah-1").mkdir(parents=True)
    Path(state, "secret").write_text("stays")

def test_temporary():
    import tempfile
    kept.append(tempfile.mkdtemp(prefix="left-"))

def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))
"""


def test_what_a_run_leaves_behind_fails_it_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    done = run(tmp_path, LEAKING)
    assert done.returncode == 1, done.stdout
    marked, bare, holding = (int(line) for line in pids.read_text().split())
    assert f"process {marked} (sleep 600): it was started by this run" in done.stdout
    assert f"process {bare} (sleep 600): it works in" in done.stdout
    assert f"process {holding} (sleep 600): it has a file open in" in done.stdout
    assert "local/ah-1 (first seen after test_inner.py::test_sandbox)" in done.stdout
    assert "left-" in done.stdout
    assert "(first seen after test_inner.py::test_temporary)" in done.stdout
    assert "open socket:" in done.stdout
    assert "secret" not in done.stdout
    for pid in (marked, bare, holding):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_skip_is_printed_with_its_reason_and_fails_only_when_asked(tmp_path: Path) -> None:
    source = """
import pytest

def test_one():
    pytest.skip("no engine here")

def test_two():
    pass
"""
    normal = run(tmp_path, source)
    assert normal.returncode == 0
    assert "test_inner.py::test_one: no engine here" in normal.stdout
    strict = run(tmp_path, source, "--fail-on-skip")
    assert strict.returncode == 1
    assert "skipped, which fails this run" in strict.stdout
    assert (
        run(tmp_path, source.replace("no engine", "not in CI: no engine"), "--fail-on-skip").returncode == 0
    )


def test_long_tests_run_with_full_only(tmp_path: Path) -> None:
    source = """
import pytest

@pytest.mark.full
def test_long():
    pass

def test_short():
    pass
"""
    assert "1 passed, 1 deselected" in run(tmp_path, source).stdout
    full = run(tmp_path, source, "--full").stdout
    assert "2 passed" in full
    assert "processor seconds by suite" in full


def test_reaching_another_machine_fails_the_test_even_when_it_is_swallowed(tmp_path: Path) -> None:
    source = """
import contextlib, socket

def test_swallowed():
    with contextlib.suppress(Exception):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
"""
    done = run(tmp_path, source)
    assert done.returncode == 1
    assert "tried to reach another machine: socket.getaddrinfo '192.0.2.1'" in done.stdout


def test_every_way_to_another_machine_is_refused(refuses_other_machines: list[str]) -> None:
    with pytest.raises(NetworkRefusedError):
        socket.getaddrinfo("example.com", 443)
    with socket.socket() as sock, pytest.raises(NetworkRefusedError):
        sock.bind(("", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(NetworkRefusedError):
        sock.sendto(b"x", ("192.0.2.1", 53))
    with socket.socket(socket.AF_INET6) as sock, pytest.raises(NetworkRefusedError):
        sock.connect(("2001:db8::1", 80))
    assert len(refuses_other_machines) == 4
    refuses_other_machines.clear()


def test_this_machine_may_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    path = f"/proc/self/fd/{os.open(tmp_path, os.O_PATH)}/s"
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(path)
    finally:
        os.close(int(path.split("/")[4]))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", None)),
        *((host, False) for host in ("0.0.0.0", "8.8.8.8", "::", "localhost.example", b"10.0.0.1")),
    ],
)
def test_loopback_is_told_from_the_rest(host: object, allowed: bool) -> None:
    assert is_loopback(host) is allowed


def test_each_suite_has_a_budget_and_together_they_are_what_a_normal_run_may_take() -> None:
    suites = {path.parent.name for path in SUPPORT.glob("*/test_*.py")}
    assert set(BUDGETS) == suites - {"live"}  # which costs money and not time
    clouds = len(emulator_names())
    allowed = FOR_TWO_CLOUDS + (clouds - 2) * FOR_ONE_MORE + FOR_ATTACKS
    assert sum(normal for normal, _ in BUDGETS.values()) <= allowed

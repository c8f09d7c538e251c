"""Whether this machine can isolate is tried, never guessed, and nothing is made when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthost.errors import IsolationUnavailableError
from agenthost.link.carriers.socket import connect_unix
from agenthost.providers.local.engine import Engine
from agenthost.providers.local.isolated import find_host
from agenthost.providers.local.probe import is_proven, probe
from agenthost.providers.local.provider import LocalProvider
from agenthost.providers.local.remedies import install_hint, remedy
from agenthost.registry import provider_names
from agenthost.spec import SandboxSpec

_REAL = shutil.which("bwrap") or "bwrap"

# Passes its options on without some of them: what an isolation looks like that lost a part.
_WEAKENED = """#!/usr/bin/python3 -I
import os, sys
fd = int(sys.argv[2])
options = open(fd, "rb", closefd=False).read().split(b"\\0")[:-1]
gone = {gone!r}
kept, skip = [], 0
for option in options:
    if skip:
        skip -= 1
    elif option in gone:
        skip = gone[option]
    else:
        kept.append(option)
memory = os.memfd_create("args", 0)
os.write(memory, b"".join(option + b"\\0" for option in kept))
os.lseek(memory, 0, 0)
os.dup2(memory, fd)
os.close(memory)
os.execv({real!r}, sys.argv)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that the unprivileged user of a sandbox can enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def script(folder: Path, text: str) -> str:
    """Write a program that stands in for bubblewrap."""
    path = folder / "bwrap"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def says(folder: Path, text: str, code: int = 1) -> str:
    """Write a bubblewrap that prints one line and fails."""
    return script(folder, f"#!/bin/sh\necho {text!r} >&2\nexit {code}\n")


async def refusal(bwrap: str, state_dir: Path) -> str:
    """Ask the provider for a sandbox; return why there is none, and see that nothing is left."""
    async with LocalProvider(bwrap=bwrap, state_dir=str(state_dir)) as provider:
        with pytest.raises(IsolationUnavailableError) as caught:
            await provider.create(SandboxSpec())
        assert [info async for info in provider.list()] == []
    assert os.listdir(state_dir / "local") == []
    return str(caught.value)


async def test_this_machine_isolates_and_the_result_is_kept(tmp_path: Path) -> None:
    engine, host = Engine("local", root=str(tmp_path), connect=connect_unix), find_host()
    result = await probe(engine, host)
    assert result.ok, result.problems
    assert result.facts["seccomp"] == "2"
    assert is_proven(host)
    assert await probe(engine, host) is result


async def test_a_missing_bubblewrap_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with LocalProvider(state_dir=str(tmp_path / "state")) as provider:
        with pytest.raises(IsolationUnavailableError, match="bubblewrap") as caught:
            await provider.create(SandboxSpec())
        assert install_hint() in str(caught.value)
        with pytest.raises(IsolationUnavailableError):
            await provider.probe()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("bwrap: Unknown option --disable-userns", "0.8.0"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconfined"),
        ("bwrap: something that nobody has heard of", "something that nobody has heard of"),
    ],
)
async def test_a_bubblewrap_that_fails_is_quoted_with_what_to_do(
    folder: Path, tmp_path: Path, said: str, told: str
) -> None:
    message = await refusal(says(folder, said), tmp_path)
    assert said in message
    assert told in message


async def test_a_bubblewrap_that_does_nothing_is_noticed(folder: Path, tmp_path: Path) -> None:
    assert "nothing was printed" in await refusal(script(folder, "#!/bin/sh\nexit 0\n"), tmp_path)


async def test_a_bubblewrap_that_only_runs_the_program_is_noticed(folder: Path, tmp_path: Path) -> None:
    await refusal(script(folder, '#!/bin/sh\nshift 3\nexec "$@"\n'), tmp_path)


async def test_a_bubblewrap_that_is_no_program_is_noticed(folder: Path, tmp_path: Path) -> None:
    await refusal(script(folder, "\x7fELF nonsense"), tmp_path)


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="not in CI: no Python in /usr/bin")
@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        ({b"--seccomp": 1}, "filter is off"),
        ({b"--unshare-net": 0}, "net namespace"),
        ({b"--unshare-ipc": 0}, "ipc namespace"),
    ],
)
async def test_an_isolation_that_lost_a_part_is_refused(
    folder: Path, tmp_path: Path, gone: dict[bytes, int], problem: str
) -> None:
    bwrap = script(folder, _WEAKENED.format(gone=gone, real=_REAL))
    assert problem in await refusal(bwrap, tmp_path)


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "apt-get install -y bubblewrap"),
        ('NAME="Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt-get install -y bubblewrap"),
        ("ID=fedora\n", "dnf install -y bubblewrap"),
        ("ID=alpine\n", "apk add bubblewrap"),
        ("ID=plan9\n", "package manager"),
    ],
)
def test_the_command_fits_the_distribution(tmp_path: Path, release: str, command: str) -> None:
    (tmp_path / "os-release").write_text(release)
    assert command in install_hint(str(tmp_path / "os-release"))
    assert "package manager" in install_hint(str(tmp_path / "missing"))


def test_a_remedy_is_always_something_to_do() -> None:
    assert remedy("bwrap: No permissions to create new namespace")
    assert "agenthost doctor" in remedy("the keeper was killed")


@pytest.mark.parametrize("said", ["", "namespace", "mount proc", "Unknown option", "uid map: not permitted"])
def test_a_remedy_names_no_provider_that_cannot_be_opened(said: str) -> None:
    named = re.findall(r"(\S+) provider", remedy(said))
    assert set(named) <= set(provider_names())


async def test_another_system_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(IsolationUnavailableError, match="darwin: run this program on Linux"):
        find_host()

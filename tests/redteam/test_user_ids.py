"""A program inside tries to take the user ids that other sandboxes of a root host need."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from local.stand_in import StandIn, stand_in

from agenthost.errors import IsolationUnavailableError
from agenthost.providers.local import entry
from agenthost.spec import NetworkPolicy, SandboxSpec

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="not in CI: only a host that is root gives sandboxes user ids"
)
# Two are enough to be taken, and leave the ids of other sandboxes of this machine alone.
UIDS = range(65500, 65502)

# All names of sockets that a host could go by. A network that is the host's has the host's names, too.
TAKE_NAMES = f"""
import socket
for uid in range({UIDS.start}, {UIDS.stop}):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(f"\\0agenthost-uid-{{uid}}")
    one.detach()
print("taken")
"""
TAKE_FILE = """
import fcntl, os
for directory in ("/run", "/var/lib", "/root", "/", "/proc/1/root/run"):
    path = directory + "/agenthost-uids.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        print("taken", path)
    except OSError as error:
        pass
"""
TAKE_INHERITED = """
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        if "agenthost-uids" in os.readlink("/proc/self/fd/" + fd):
            print("open", fd)
    except FileNotFoundError:
        pass
"""
OPEN = SandboxSpec(network=NetworkPolicy.open())


@pytest.fixture(autouse=True)
def few_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give sandboxes of these tests only two ids, and a file of locks of their own."""
    monkeypatch.setattr(entry, "_UIDS", UIDS)
    monkeypatch.setattr(entry, "_LOCK_DIRECTORIES", (str(tmp_path),))


async def uid_of(sandbox: StandIn) -> int:
    """Return a sandbox's user id on the host."""
    return int((await sandbox.backend.info()).resources["uid"])


@pytest.mark.attack("let no other sandbox start", "take the names that reserve user ids")
async def test_names_of_sockets_reserve_nothing() -> None:
    async with stand_in(OPEN) as sandbox:
        assert await sandbox.run(TAKE_NAMES) == "taken\n"
        async with stand_in() as other:
            assert await uid_of(other) != await uid_of(sandbox)


async def test_the_file_of_user_ids_is_out_of_reach() -> None:
    async with stand_in(OPEN) as sandbox:
        assert await sandbox.run(TAKE_FILE) == ""
        async with stand_in() as other:
            assert await uid_of(other) != await uid_of(sandbox)


async def test_the_open_file_of_user_ids_does_not_come_in() -> None:
    async with stand_in(OPEN) as sandbox:
        assert await sandbox.run(TAKE_INHERITED) == ""


async def test_a_user_id_is_given_once_and_again_after_its_sandbox_has_ended() -> None:
    async with stand_in() as one:
        async with stand_in() as two:
            assert {await uid_of(one), await uid_of(two)} == set(UIDS)
            with pytest.raises(IsolationUnavailableError, match="are taken"):
                async with stand_in():
                    pytest.fail("a third sandbox has one of two ids")
        async with stand_in() as three:
            assert await uid_of(three) != await uid_of(one)


def reserve_by_name(sandbox_entry: entry.Entry) -> int:
    """Reserve a user id by the name of an abstract socket."""
    for uid in UIDS:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0agenthost-uid-{uid}")
        except OSError:
            holder.close()
            continue
        sandbox_entry.other_fds.append(holder.detach())
        return uid
    raise IsolationUnavailableError("all user ids are taken")


@pytest.mark.control("take the names that reserve user ids")
async def test_where_names_reserve_user_ids_a_program_inside_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stand_in(OPEN) as sandbox:
        assert await sandbox.run(TAKE_NAMES) == "taken\n"
        monkeypatch.setattr(entry, "_take_uid", reserve_by_name)
        with pytest.raises(IsolationUnavailableError, match="are taken"):
            async with stand_in():
                pytest.fail("a sandbox was made")

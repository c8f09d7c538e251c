"""Looking at what runs inside a sandbox."""

from __future__ import annotations

from support.waiting import until

from agenthost.sandbox import Sandbox

_LIST = """
import os, sys
for name in os.listdir("/proc"):
    if not name.isdigit() or int(name) == os.getpid():
        continue
    try:
        cmdline = open(f"/proc/{name}/cmdline", "rb").read().split(b"\\0")
        state = open(f"/proc/{name}/stat", "rb").read().rpartition(b")")[2].split()[0]
    except OSError:
        continue
    if state not in b"ZX" and sys.argv[1].encode() in cmdline:
        print(name)
"""


async def living(sandbox: Sandbox, argument: str) -> list[int]:
    """Return the processes inside that have ``argument`` among their arguments, zombies left out."""
    result = await sandbox.exec(["python3", "-I", "-S", "-c", _LIST, argument])
    assert result.exit_code == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


async def end(sandbox: Sandbox, argument: str) -> None:
    """Kill the processes inside that have ``argument`` among their arguments; return when they are gone."""
    for pid in await living(sandbox, argument):
        await sandbox.exec(["kill", "-9", str(pid)])
    # A killed process takes its time, the more so one that has much to give back.
    await until(lambda: living(sandbox, argument), lambda left: not left)


_MEMORY = """
import os
total = 0
for name in os.listdir("/proc"):
    try:
        if name.isdigit() and b"guest.pyz" in open(f"/proc/{name}/cmdline", "rb").read():
            total += int(open(f"/proc/{name}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        continue
print(total)
"""


async def guest_memory(sandbox: Sandbox) -> int:
    """Return the bytes of memory that the guest has resident."""
    return int((await sandbox.exec(["python3", "-I", "-S", "-c", _MEMORY])).stdout)

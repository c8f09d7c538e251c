"""Sandboxes that end with this process, also when it leaves in a hurry.

A block ends its sandbox when it is left. A second or third Ctrl-C breaks that off; then the program's end
does it, in a process of its own, because a program that ends can start neither threads nor event loops on
every Python. A process that is killed ends nothing: then the sandbox's lifetime does.
"""

from __future__ import annotations

import atexit
import subprocess
import sys

import anyio

from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.registry import open_provider, provider_names

_AT_EXIT = 30.0  # seconds that the program's end may be held up

_owned: dict[str, str] = {}  # the provider's name by the sandbox's id


def own(provider: str, sandbox_id: str) -> None:
    """End this sandbox with the process, unless ``disown`` comes first."""
    if provider in provider_names():
        if not _owned:
            atexit.register(end_all)
        _owned[sandbox_id] = provider


def disown(sandbox_id: str) -> None:
    """It has ended, or is somebody else's."""
    _owned.pop(sandbox_id, None)
    if not _owned:
        atexit.unregister(end_all)


def owned() -> frozenset[str]:
    """Return the ids of the sandboxes that this process ends."""
    return frozenset(_owned)


async def end_sandbox(provider_name: str, sandbox_id: str) -> None:
    """End a sandbox by name and id; one that has ended is no error."""
    async with open_provider(provider_name) as provider:
        try:
            sandbox = await provider.get(sandbox_id)
        except (SandboxNotFoundError, SandboxGoneError):
            return
        await sandbox.terminate()


def end_all() -> None:
    """End them now; for the program's end."""
    if not _owned:
        return
    pairs = [word for sandbox_id, provider in _owned.items() for word in (provider, sandbox_id)]
    _owned.clear()
    argv = [sys.executable, "-m", "agenthost.owned", *pairs]
    # In a session of its own: one more Ctrl-C breaks off the waiting and not the ending.
    ending = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        ending.wait(_AT_EXIT)
    except subprocess.TimeoutExpired:
        ending.kill()


async def _main(words: list[str]) -> None:
    async with anyio.create_task_group() as tasks:
        for provider, sandbox_id in zip(words[::2], words[1::2], strict=True):
            tasks.start_soon(end_sandbox, provider, sandbox_id)


if __name__ == "__main__":
    anyio.run(_main, sys.argv[1:])

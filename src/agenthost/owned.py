"""Sandboxes that end with this process, also when it leaves in a hurry.

A block ends its sandbox when it is left. A second or third Ctrl-C breaks that off; then the program's end
does it, in a process of its own, because a program that ends can start neither threads nor event loops on
every Python. A process that is killed ends nothing: then the sandbox's lifetime does.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import IO, Any

import anyio

from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.forked import after_fork
from agenthost.owners import note
from agenthost.providers.local.interpreter import host_interpreter
from agenthost.registry import open_provider, provider_names, register_provider, registration, ways_opened

_AT_EXIT = 30.0  # seconds that the program's end may be held up
_ATTEMPTS = 3  # to start what ends the sandboxes: one more than the Ctrl-C of an impatient person

_PROGRAM = """
import json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from agenthost.owned import obey_orders
obey_orders(given["orders"])
"""

_owned: dict[str, str] = {}  # the provider's name by the sandbox's id
after_fork(_owned.clear)


def own(provider: str, sandbox_id: str, *, opened_as: str) -> None:
    """End this sandbox with the process, unless ``disown`` or ``hand_on`` comes first.

    Args:
        provider: What the sandbox says of its provider.
        sandbox_id: Its id there.
        opened_as: The name that the provider was opened by, which may be another one.
    """
    note("owned", provider, sandbox_id)
    if opened_as in provider_names():
        if not _owned:
            atexit.register(end_all)
        _owned[sandbox_id] = opened_as


def disown(provider: str, sandbox_id: str) -> None:
    """It has ended."""
    note("ended", provider, sandbox_id)
    _release(sandbox_id)


def hand_on(provider: str, sandbox_id: str) -> None:
    """It is somebody else's now, or whoever's has its ref."""
    note("handed_on", provider, sandbox_id)
    _release(sandbox_id)


def _release(sandbox_id: str) -> None:
    _owned.pop(sandbox_id, None)
    if not _owned:
        atexit.unregister(end_all)


def owned() -> frozenset[str]:
    """Return the ids of the sandboxes that this process ends."""
    return frozenset(_owned)


async def end_sandbox(provider_name: str, sandbox_id: str, **options: object) -> bool:
    """End a sandbox by name and id; one that has ended is no error. Return whether it was there."""
    from agenthost.adapter.provider import GuestProvider

    async with open_provider(provider_name, **options) as provider:
        try:
            if isinstance(provider, GuestProvider):
                # Without a link, which would want the secret that it was made with.
                await (await provider.reach(sandbox_id)).terminate()
            else:
                await (await provider.get(sandbox_id)).terminate()
        except (SandboxNotFoundError, SandboxGoneError):
            return False
        return True


def end_all() -> None:
    """End them now; for the program's end."""
    if not _owned:
        return
    interrupt: KeyboardInterrupt | None = None
    for _ in range(_ATTEMPTS):
        try:
            ending = _start_ending()
        except KeyboardInterrupt as error:
            interrupt = (
                error  # whether the process has started is not known; a second one finds nothing to end
            )
            continue
        _owned.clear()
        try:
            ending.wait(_AT_EXIT)
        except subprocess.TimeoutExpired:
            ending.kill()
        break
    if interrupt is not None:
        raise interrupt


def _start_ending() -> subprocess.Popen[bytes]:
    """Start the process that ends them. It has its orders whole before it runs, and needs nothing more."""
    orders = [_order(provider, sandbox_id) for sandbox_id, provider in _owned.items()]
    argv = [host_interpreter(), "-I", "-c", _PROGRAM]  # sys.executable may be a program that embeds Python
    # As a file and not as arguments: options of a provider may be secret.
    with _private_file() as file:
        file.write(json.dumps({"path": sys.path, "orders": orders}).encode())
        file.seek(0)
        # In a session of its own: one more Ctrl-C breaks off the waiting and not the ending.
        return subprocess.Popen(argv, stdin=file, start_new_session=True)


def _private_file() -> IO[bytes]:
    """Return a file without a name, in memory where the system has such files."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("agenthost-orders", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile()


def _order(provider: str, sandbox_id: str) -> dict[str, Any]:
    """Say how the process that ends a sandbox finds its provider: it knows no name that we registered."""
    found = registration(provider)
    return {
        "provider": provider,
        "target": found.target if found.kind == "registered" else None,
        "sandbox": sandbox_id,
        "ways": [_plain(options) for options in ways_opened(provider)] or [{}],
    }


def _plain(options: Any) -> dict[str, object]:
    """Keep the options that are data: bounds and the like are not needed to end a sandbox."""
    found: dict[str, object] = {}
    for name, value in options.items():
        with suppress(TypeError, ValueError):
            found[name] = json.loads(json.dumps(value))
    return found


async def _main(orders: list[dict[str, Any]]) -> None:
    async with anyio.create_task_group() as tasks:
        for order in orders:
            tasks.start_soon(_obey, order)


async def _obey(order: dict[str, Any]) -> None:
    if order["target"] is not None:
        register_provider(order["provider"], order["target"], replace=True)
    for options in order["ways"]:
        try:
            if await end_sandbox(order["provider"], order["sandbox"], **options):
                return
        except Exception:  # noqa: BLE001 - the other ways, and the other sandboxes, are still to be tried
            traceback.print_exc()


def obey_orders(orders: list[dict[str, Any]]) -> None:
    """End what a process that has ended left, in a process of its own."""
    anyio.run(_main, orders)

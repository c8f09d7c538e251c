"""Measure the local sandboxes of other libraries beside agenthost's, and print a table.

All take turns within one run, so that they see the same machine; the figures are medians. None but agenthost
keeps a program from the rest of the machine: what they do is what a bare subprocess does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import version

from rich.console import Console
from rich.table import Table
from sandboxes import PEERS, Peer, Sandbox

_FLOOD = 8 * 1024 * 1024  # inspect_ai takes 10 MiB
_FILE = b"a line of text that takes sixty-four bytes, with its line's end\n" * (10 * 1024 * 16)
_SEQUENCE = 100


async def _exec_true(box: Sandbox) -> None:
    await box.exec(["true"])


async def _sequence(box: Sandbox) -> None:
    for _ in range(_SEQUENCE):
        await box.exec(["true"])


async def _ten_at_once(box: Sandbox) -> None:
    await asyncio.gather(*(box.exec(["sleep", "0.1"]) for _ in range(10)))


async def _flood(box: Sandbox) -> None:
    printed = await box.exec(["sh", "-c", f"yes | head -c {_FLOOD}"])
    assert len(printed) >= _FLOOD - 1, f"{len(printed)} bytes of {_FLOOD}"


async def _write(box: Sandbox) -> None:
    await box.write("file", _FILE)


async def _read(box: Sandbox) -> None:
    assert await box.read("file") == _FILE


_ROWS: dict[str, Callable[[Sandbox], Awaitable[None]]] = {
    "exec true": _exec_true,
    f"{_SEQUENCE} in a row": _sequence,
    "ten at once that sleep 100 ms": _ten_at_once,
    "a program that prints 8 MiB": _flood,
    "write 10 MiB": _write,
    "read 10 MiB": _read,
}


async def _measure(rounds: int, progress: Console) -> dict[str, dict[str, float | str]]:
    found: dict[str, dict[str, float | str]] = {}
    async with AsyncExitStack() as stack:
        boxes = {peer.package: await stack.enter_async_context(peer.open()) for peer in PEERS}
        for name, once in _ROWS.items():
            taken: dict[str, list[float]] = {package: [] for package in boxes}
            failed: dict[str, str] = {}
            for number in range(rounds + 1):  # the first one warms up
                for package, box in boxes.items():
                    if package in failed:
                        continue
                    began = time.perf_counter()
                    try:
                        await once(box)
                    except Exception as error:  # noqa: BLE001 - a library that cannot do it is a result
                        failed[package] = f"{type(error).__name__}: {error}"[:60]
                    if number:
                        taken[package].append(time.perf_counter() - began)
            medians = {package: statistics.median(times) * 1e3 for package, times in taken.items() if times}
            found[name] = {**medians, **failed}
            progress.print(f"[dim]{name}[/dim]")
    return found


def _label(peer: Peer) -> str:
    return f"{peer.package} {version(peer.package)}"


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (default 7)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    # Some of these libraries tell their makers what is used; nothing here is to leave the machine.
    os.environ.update(OPENAI_AGENTS_DISABLE_TRACING="1", LANGSMITH_TRACING="false", DO_NOT_TRACK="1")
    rows = asyncio.run(_measure(arguments.rounds, Console(stderr=True)))
    if arguments.json:
        versions = {peer.package: version(peer.package) for peer in PEERS}
        print(json.dumps({"versions": versions, "milliseconds": rows}))
        return
    table = Table("milliseconds", *(_label(peer) for peer in PEERS), title="local sandboxes, side by side")
    table.add_row("isolation", *(peer.isolation for peer in PEERS))
    for name, row in rows.items():
        cells = (row.get(peer.package, "") for peer in PEERS)
        table.add_row(name, *(cell if isinstance(cell, str) else f"{cell:.3g}" for cell in cells))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()

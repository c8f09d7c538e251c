"""A sandbox beside a bare asyncio subprocess and a bare file."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from measure import Row, in_turns

from agenthost import Sandbox, SandboxSpec, open_provider

_FLOOD = 20 * 1024 * 1024
_FILES = (10, 100)  # MiB
_SEQUENCE = 1000
_LINES = 200


async def rows(rounds: int) -> AsyncIterator[Row]:
    """Measure all."""
    yield _import_time(rounds)
    async with open_provider("local") as provider:
        sandbox = await provider.create(SandboxSpec())
        try:
            yield await _exec_true(sandbox, rounds * 10)
            yield await _sequence(sandbox, max(1, rounds // 2))
            yield await _print_to_caller(sandbox)
            yield await _flood(sandbox, rounds)
            with tempfile.TemporaryDirectory() as folder:
                for mib in _FILES:
                    data = os.urandom(mib << 20)
                    yield await _write(sandbox, Path(folder), data, rounds)
                    yield await _read(sandbox, Path(folder), len(data), rounds)
        finally:
            await sandbox.terminate()


def _import_time(rounds: int) -> Row:
    def once(statement: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - began

    pairs = [(once("import agenthost"), once("pass")) for _ in range(rounds + 1)][1:]
    cost = statistics.median(a - b for a, b in pairs)
    return Row(
        group="sandbox", name="import agenthost", unit="s", ours=cost, baseline=None,
        baseline_name="above an empty program", goal=0.3, rounds=rounds,
    )  # fmt: skip


async def _exec_true(sandbox: Sandbox, rounds: int) -> Row:
    async def ours() -> float:
        began = time.perf_counter()
        await sandbox.exec(["true"])
        return time.perf_counter() - began

    async def bare() -> float:
        began = time.perf_counter()
        await _bare_exec()
        return time.perf_counter() - began

    a, b = await in_turns(ours, bare, rounds)
    return Row(
        group="sandbox", name="exec true", unit="ms", ours=a * 1e3, baseline=b * 1e3,
        baseline_name="asyncio subprocess", goal=1.2, rounds=rounds,
    )  # fmt: skip


async def _sequence(sandbox: Sandbox, rounds: int) -> Row:
    async def ours() -> float:
        began = time.perf_counter()
        for _ in range(_SEQUENCE):
            await sandbox.exec(["true"])
        return time.perf_counter() - began

    async def bare() -> float:
        began = time.perf_counter()
        for _ in range(_SEQUENCE):
            await _bare_exec()
        return time.perf_counter() - began

    a, b = await in_turns(ours, bare, rounds)
    return Row(
        group="sandbox", name=f"{_SEQUENCE:,} execs in a row", unit="s", ours=a, baseline=b,
        baseline_name="asyncio subprocess", goal=1.4, rounds=rounds,
    )  # fmt: skip


async def _bare_exec() -> None:
    process = await asyncio.create_subprocess_exec(
        "true", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await process.communicate()


async def _print_to_caller(sandbox: Sandbox) -> Row:
    # The line holds the clock at which it was printed; one kernel, so one monotonic clock.
    script = (
        "import sys, time\n"
        f"for _ in range({_LINES}):\n"
        "    print(time.monotonic_ns(), flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    delays: list[float] = []
    async with sandbox.spawn(["python3", "-c", script]) as process:
        for _ in range(_LINES):
            line = await process.receive_stdout()
            delays.append((time.monotonic_ns() - int(line)) / 1e6)
            await process.send_stdin(b"\n")
    return Row(
        group="sandbox", name="spawn: print to caller", unit="ms", ours=statistics.median(delays),
        baseline=None, baseline_name="no baseline: the delay itself", goal=3.0, rounds=_LINES,
    )  # fmt: skip


async def _flood(sandbox: Sandbox, rounds: int) -> Row:
    argv = ["head", "-c", str(_FLOOD), "/dev/zero"]

    async def ours() -> float:
        began = time.perf_counter()
        result = await sandbox.exec(argv, max_output=_FLOOD)
        assert len(result.stdout) == _FLOOD
        return _FLOOD / (time.perf_counter() - began) / 1e6

    async def bare() -> float:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, _ = await process.communicate()
        assert len(out) == _FLOOD
        return _FLOOD / (time.perf_counter() - began) / 1e6

    a, b = await in_turns(ours, bare, rounds)
    return Row(
        group="sandbox", name="exec printing 20 MiB", unit="MB/s", ours=a, baseline=b,
        baseline_name="asyncio subprocess", goal=1.0, higher_is_better=True, rounds=rounds,
    )  # fmt: skip


async def _write(sandbox: Sandbox, folder: Path, data: bytes, rounds: int) -> Row:
    async def ours() -> float:
        began = time.perf_counter()
        await sandbox.write_file("big", data)
        return time.perf_counter() - began

    async def bare() -> float:
        began = time.perf_counter()
        (folder / "big").write_bytes(data)
        return time.perf_counter() - began

    a, b = await in_turns(ours, bare, rounds)
    return Row(
        group="sandbox", name=f"write {len(data) >> 20} MiB", unit="s", ours=a, baseline=b,
        baseline_name="bare file", goal=1.5, rounds=rounds,
    )  # fmt: skip


async def _read(sandbox: Sandbox, folder: Path, size: int, rounds: int) -> Row:
    async def ours() -> float:
        began = time.perf_counter()
        assert len(await sandbox.read_file("big", max_bytes=size)) == size
        return time.perf_counter() - began

    async def bare() -> float:
        began = time.perf_counter()
        assert len((folder / "big").read_bytes()) == size
        return time.perf_counter() - began

    a, b = await in_turns(ours, bare, rounds)
    return Row(
        group="sandbox", name=f"read {size >> 20} MiB", unit="s", ours=a, baseline=b,
        baseline_name="bare file", goal=1.5, rounds=rounds,
    )  # fmt: skip

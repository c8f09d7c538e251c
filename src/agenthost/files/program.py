"""Our program in the sandbox: made of the modules in ``inside``, started by its text, and what it answers."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, NoReturn, cast

from agenthost.errors import DownloadError, SandboxError, UnsupportedError
from agenthost.sandbox import Process, Sandbox
from agenthost.wire.json_bounds import check_values, load_json

# Each imports only those before it.
_MODULES = ("tar", "rules", "packing", "staging", "unpacking", "entries", "digests", "main")
_PACKAGE = "agenthost.files.inside"
_START = """
import base64, json, sys, types, zlib
for name, text in json.loads(zlib.decompress(base64.b85decode(sys.argv[1]))):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
sys.exit(module.main())
"""
_MOST = 64 * 1024 * 1024  # bytes of an answer
_MOST_VALUES = 1_000_000  # of an answer: a directory of some 120,000 entries
_STDERR = 16 * 1024  # bytes, from its end


def argv_of(sandbox: Sandbox, call: dict[str, Any]) -> list[str]:
    """Return what runs one call: Python, and a program that needs nothing that the image lacks."""
    python = getattr(getattr(sandbox, "layout", None), "python", "python3")
    told = json.dumps({"workdir": sandbox.workdir, **call})  # ASCII, whatever bytes a name has
    return [str(python), "-I", "-S", "-c", _START, _modules(), told]


def call_in(argv: Sequence[str]) -> str | None:
    """Return the call that ``argv_of`` made an argv of, as JSON; None for any other program."""
    return argv[6] if len(argv) == 7 and argv[4] == _START else None


@cache
def _modules() -> str:
    package = resources.files(_PACKAGE)
    texts = [(f"{_PACKAGE}.{name}", (package / f"{name}.py").read_text("utf-8")) for name in _MODULES]
    return base64.b85encode(zlib.compress(json.dumps(texts).encode(), 9)).decode("ascii")


async def ask(sandbox: Sandbox, call: dict[str, Any]) -> Any:
    """Do one call and return its answer.

    Raises:
        OSError: As the builtins of files, with the path.
        UnsupportedError: The sandbox has no ``python3``.
    """
    try:
        # Not from the working directory, which may have been removed.
        result = await sandbox.exec(argv_of(sandbox, call), cwd="/", max_output=_MOST)
    except FileNotFoundError as error:
        raise _no_python(sandbox) from error
    if result.exit_code != 0:
        raise_failure(sandbox, result.stderr, result.exit_code)
    return read_answer(sandbox, result.stdout, whole=not result.truncated)


@asynccontextmanager
async def running(sandbox: Sandbox, call: dict[str, Any]) -> AsyncGenerator[Process]:
    """Start a call that sends or takes an archive. Leaving the block kills it."""
    spawned = sandbox.spawn(argv_of(sandbox, call), cwd="/")
    try:
        process = await spawned.__aenter__()
    except FileNotFoundError as error:
        raise _no_python(sandbox) from error
    failure: BaseException | None = None
    try:
        yield process
    except BaseException as error:
        failure = error
        raise
    finally:
        await spawned.__aexit__(
            type(failure) if failure else None, failure, failure.__traceback__ if failure else None
        )


async def output_of(process: Process) -> bytes:
    """Return what is left of a program's stdout."""
    parts: list[bytes] = []
    size = 0
    while data := await process.receive_stdout():
        size += len(data)
        if size > _MOST:
            raise SandboxError(f"the sandbox answers with more than {_MOST} bytes")
        parts.append(data)
    return b"".join(parts)


async def check_success(sandbox: Sandbox, process: Process) -> None:
    """Wait for the end of a program, whose stdout was read, and raise what it failed with."""
    stderr = b""
    while data := await process.receive_stderr():
        stderr = (stderr + data)[-_STDERR:]
    code = await process.wait()
    if code != 0:
        raise_failure(sandbox, stderr, code)


def raise_failure(sandbox: Sandbox, stderr: bytes, code: int) -> NoReturn:
    """Raise what a call failed with."""
    last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    try:
        told = load_json(last.encode())
    except (ValueError, RecursionError):
        told = None
    match told:
        case {"errno": int(number), "text": str(text), "path": str(path)}:
            raise OSError(number, text, path)
        case {"refused": str(text)}:
            raise DownloadError(text)
        case _:
            what = last[-500:] or f"exit code {code}"
            raise SandboxError(f"files of sandbox {sandbox.name}: {what}")


def read_answer(sandbox: Sandbox, data: bytes, *, whole: bool = True) -> Any:
    """Return an answer."""
    try:
        if whole:
            check_values(data, most=_MOST_VALUES)
            return json.loads(data)
    except (ValueError, RecursionError):
        pass
    raise SandboxError(
        f"files of sandbox {sandbox.name}: the answer is not whole, or has more than {_MOST} bytes or "
        f"{_MOST_VALUES} values"
    )


def items_of(value: object) -> list[object]:
    """Return the items of an answer, which may be anything."""
    if not isinstance(value, list):
        raise SandboxError(f"the sandbox answers {value!r:.100} where a list is wanted")
    return cast("list[object]", value)


def fields_of(value: object) -> dict[str, Any]:
    """Return the fields of an answer, which may be anything."""
    if not isinstance(value, dict):
        raise SandboxError(f"the sandbox answers {value!r:.100} where fields are wanted")
    return cast("dict[str, Any]", value)


def _no_python(sandbox: Sandbox) -> UnsupportedError:
    return UnsupportedError(
        f"sandbox {sandbox.name} has no python3, which agenthost.files needs: Python 3.10 or newer"
    )

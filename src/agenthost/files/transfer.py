"""A directory of the host into a sandbox, and one of a sandbox onto the host."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from agenthost.errors import AgentHostError, ConfigError, DownloadError, SandboxError
from agenthost.files.git_directory import GitRepositories
from agenthost.files.ignore import GIT_OF_THE_HOST, IGNORE_FILE, Ignore, ignore_of, patterns_in, rules_of
from agenthost.files.inside.main import LENGTH
from agenthost.files.inside.packing import Packed, pack
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage
from agenthost.files.inside.tar import RefusedError
from agenthost.files.inside.unpacking import Unpacker
from agenthost.files.program import ask, check_success, fields_of, items_of, output_of, read_answer, running
from agenthost.files.values import Downloaded, TransferLimits, TransferProgress, Uploaded
from agenthost.sandbox import Process, Sandbox
from agenthost.spec import check_text
from agenthost.statedir import state_inodes
from agenthost.threads import in_thread

_log = logging.getLogger("agenthost.files")

Report = Callable[[TransferProgress], object]

_AT_ONCE = 1024 * 1024  # bytes that are written in one go: handing them to a thread takes its time
_LAST_STEP = 60.0  # seconds that putting an upload in its place may take before it is broken off
_CLEANING = 10.0  # seconds that removing what a broken upload left may take


async def upload_dir(
    sandbox: Sandbox,
    source: str | os.PathLike[str],
    target: str,
    *,
    ignore: Ignore | Sequence[str] | None = None,
    limits: TransferLimits = TransferLimits(),  # noqa: B008 - a frozen value
    on_progress: Report | None = None,
) -> Uploaded:
    """Copy what is in a directory of this machine into one of the sandbox.

    The archive is written beside the target and moved when it is whole. When this fails or is cancelled
    before, the target is as it was. A target that was not there comes to be in one step; in one that is
    there, each file is replaced in one step and what the source does not have stays. Being cancelled while
    things are moved waits for the end of that.

    Args:
        sandbox: Any; it needs ``python3``.
        source: A directory. No symlink in it is followed.
        target: A directory, made with its parents if needed. Relative ones start at the working directory
            and must not leave it.
        ignore: Patterns as in a .gitignore, after those that keep secrets out and those of a file
            ``.agenthostignore`` in the source, which takes back nothing that keeps a secret; or an Ignore.
        limits: How much may travel.
        on_progress: Called after each piece that was sent; what it raises breaks the transfer off.

    Raises:
        OSError: FileNotFoundError, NotADirectoryError, PermissionError ... with the path, of either side.
            EIO for a file that became shorter while it was read.
        ConfigError: It is more than the limits, or a pattern is none.
        UnsupportedError: The sandbox has no ``python3``.
        SandboxGoneError: The sandbox has ended.
    """
    check_text("target", target)
    root = os.fspath(source)
    wanted = ignore_of(ignore, defaults=True)
    own = await in_thread(partial(patterns_in, Path(root)))
    # In a thread, since a long list of patterns takes a while.
    rules = await in_thread(lambda: Rules(*rules_of(wanted, own)))
    kept = await in_thread(state_inodes)  # they hold the secret of every sandbox of this user
    packed = Packed()
    repositories = GitRepositories(root)
    pieces = pack(
        root, rules, limits.inner(), packed, everything=False, without=kept, substitutes=repositories
    )
    try:
        first = await _next(pieces)  # what is wrong with the source comes before anything runs inside
        stage = f".agenthost-{secrets.token_hex(8)}"
        call = _call("unpack", target, limits, ([], [], []), stage=stage)
        answer = b""
        try:
            async with running(sandbox, call) as process:
                sent = await _send(process, first, pieces, packed, on_progress)
                _warn_of_powerless(root, own, rules)
                with anyio.CancelScope(shield=sent, deadline=anyio.current_time() + _LAST_STEP) as last:
                    if sent:
                        with contextlib.suppress(BrokenPipeError):  # it has ended and said why
                            await _send_piece(process, b"")
                        await process.close_stdin()
                    answer = await output_of(process)
                    await check_success(sandbox, process)
                if last.cancelled_caught:
                    raise SandboxError(f"files of sandbox {sandbox.name}: no answer within {_LAST_STEP:g} s")
        except BaseException:
            with anyio.move_on_after(_CLEANING, shield=True):
                await _clean(sandbox, target, stage)
            raise
    except RefusedError as error:
        raise ConfigError(
            f"{root} is not uploaded: {error}. A line in {os.path.join(root, IGNORE_FILE)} leaves something "
            "out, as ignore= of agenthost.files.upload_dir does; its limits= lets more pass"
        ) from error
    except DownloadError as error:
        raise SandboxError(f"{root} was not uploaded: {error}") from error
    return _uploaded(read_answer(sandbox, answer), packed)


async def download_dir(
    sandbox: Sandbox,
    source: str,
    target: str | os.PathLike[str],
    *,
    ignore: Ignore | Sequence[str] | None = None,
    limits: TransferLimits = TransferLimits(),  # noqa: B008 - a frozen value
    on_progress: Report | None = None,
) -> Downloaded:
    """Copy what is in a directory of the sandbox into one of this machine.

    The sandbox is not trusted: only files, directories and symlinks that stay below the target are made,
    nothing is written through a symlink of either, and no file can be written by others than its owner or
    runs with another's rights. What is in the files is the sandbox's: a ``.git/hooks`` runs when git does.

    The same holds as for ``upload_dir``: it is put in its place when it is whole. A git configuration of the
    target is not replaced, nor is a ``.git`` that is a file: ``refused`` names them.

    Args:
        sandbox: Any; it needs ``python3``.
        source: A directory. Relative ones start at the working directory and must not leave it.
        target: A directory, made with its parents if needed.
        ignore: Patterns as in a .gitignore; nothing is left out by default.
        limits: How much may travel.
        on_progress: Called after each piece that was written; what it raises breaks the transfer off.

    Raises:
        OSError: FileNotFoundError, NotADirectoryError, PermissionError ... with the path, of either side.
            EIO for a file that became shorter while it was read.
        DownloadError: What the sandbox sent is no archive, or more than the limits. The target is as it was.
        ConfigError: A pattern is none.
        UnsupportedError: The sandbox has no ``python3``.
        SandboxGoneError: The sandbox has ended.
    """
    check_text("source", source)
    rules = rules_of(ignore_of(ignore, defaults=False))
    place = os.fspath(target)
    own = partial(Rules(GIT_OF_THE_HOST).leave_out, is_directory=False)
    stage = await in_thread(partial(Stage, place, f".agenthost-{secrets.token_hex(8)}", own))
    unpacker = Unpacker(stage, Rules(*rules), limits.inner())
    try:
        async with running(sandbox, _call("pack", source, limits, rules)) as process:
            await process.close_stdin()
            failure = await _receive(process, unpacker, on_progress)
            if failure is None:
                await _check_packed(sandbox, process, source)
        if failure is not None:
            raise failure
        await in_thread(unpacker.finish)
    except (RefusedError, DownloadError) as error:
        raise DownloadError(
            f"what the sandbox sent is not accepted: {error}. Nothing was written to {place}"
        ) from error
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(partial(_close, unpacker, stage))
    _tell(on_progress, unpacker.told.members, unpacker.told.size)
    return Downloaded(unpacker.told.files, unpacker.told.size, unpacker.told.refused)


async def _check_packed(sandbox: Sandbox, process: Process, source: str) -> None:
    try:
        await check_success(sandbox, process)
    except PermissionError as error:
        if error.filename == source:
            raise  # the directory itself
        # One file that its program closed must not cost all that an agent has made.
        text = f"{error.strerror} in the sandbox. ignore= of the download leaves it out"
        raise PermissionError(error.errno, text, error.filename) from error


async def _send(
    process: Process, first: bytes, pieces: Iterator[bytes], packed: Packed, report: Report | None
) -> bool:
    """Send an archive. Returns False when the program has ended before it took it all."""
    piece = first
    while piece:
        try:
            await _send_piece(process, piece)
        except BrokenPipeError:
            return False  # it has said why
        _tell(report, packed.members, packed.size)
        piece = await _next(pieces)
    return True


async def _send_piece(process: Process, piece: bytes) -> None:
    await process.send_stdin(len(piece).to_bytes(LENGTH, "big") + piece)


async def _receive(process: Process, unpacker: Unpacker, report: Report | None) -> RefusedError | None:
    """Take an archive until stdout ends. Returns why it was not taken to its end."""
    waiting: list[bytes] = []
    size = 0
    over = False
    while not over:
        data = await process.receive_stdout()
        over = not data
        waiting.append(data)
        size += len(data)
        if size >= _AT_ONCE or over:
            await anyio.lowlevel.checkpoint()
            try:
                await in_thread(partial(unpacker.feed, b"".join(waiting)))
            except RefusedError as error:
                return error
            waiting, size = [], 0
            _tell(report, unpacker.told.members, unpacker.told.size)
    return None


def _warn_of_powerless(root: str, lines: Sequence[str], rules: Rules) -> None:
    for number in sorted(rules.powerless):
        _log.warning(
            "%s, line %d: %r takes nothing back, since it names what may hold a secret. That travels only "
            "by ignore= of agenthost.files.upload_dir",
            os.path.join(root, IGNORE_FILE),
            number,
            lines[number - 1],
        )


def _close(unpacker: Unpacker, stage: Stage) -> None:
    try:
        unpacker.close()
    finally:
        stage.close()


async def _next(pieces: Iterator[bytes]) -> bytes:
    await (
        anyio.lowlevel.checkpoint()
    )  # waiting for a thread is none, nor is sending what a window has room for
    # A generator's StopIteration cannot pass through what waits for a thread.
    try:
        return await in_thread(lambda: next(pieces, b""))
    except PermissionError as error:
        text = f"{error.strerror}. A line in {IGNORE_FILE} at the top of the directory leaves it out"
        raise PermissionError(error.errno, text, error.filename) from error


async def _clean(sandbox: Sandbox, target: str, stage: str) -> None:
    """Remove what a program left that was killed. Where that fails, the error that came first tells more."""
    try:
        await ask(sandbox, {"do": "discard", "path": target, "stage": stage})
    except (OSError, AgentHostError):
        return


def _call(
    what: str, path: str, limits: TransferLimits, rules: Sequence[Sequence[str]], **more: Any
) -> dict[str, Any]:
    numbers = [limits.members, limits.size, limits.depth]
    return {"do": what, "path": path, "limits": numbers, "rules": rules, **more}


def _uploaded(answer: object, packed: Packed) -> Uploaded:
    match fields_of(answer):
        case {"files": int(files), "size": int(size), "refused": refused}:
            names = [str(name) for name in items_of(refused)]
            return Uploaded(files, size, ignored=packed.left_out, refused=names)
        case other:
            raise SandboxError(f"the sandbox answers {other!r:.100} to an upload")


def _tell(report: Report | None, members: int, size: int) -> None:
    if report is not None:
        report(TransferProgress(members, size))

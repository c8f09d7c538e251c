"""A ``claude`` for tests: it plays a script instead of asking a model, and starts in a fraction of the time.

    first = [FakeCLI.partials(100), FakeCLI.tool("Bash", {"command": "ls"}, ask=True)]
    cli = FakeCLI(first, [FakeCLI.text("Bye.")])
    options = ClaudeAgentOptions(cli_path=cli.write(tmp_path / "claude"), can_use_tool=...)

It speaks the CLI's side of the control protocol, so that callbacks, interrupts and changes of the model
work as with the real one, and it misbehaves when told to. Every message that it emits has a number: see
``number``.
"""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from agenthost.sandbox import Sandbox

Step = dict[str, Any]
"""One step of a script, made by the functions of FakeCLI. Plain JSON data."""

_PACKAGE = "agenthost/testing/fake_program"
_MARK = "-fa4e-4c11-"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can tell: equal scripts give equal files
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # byte code that is never compared with its source
_MAIN = """\
import json, sys
from agenthost.testing.fake_program.__main__ import main
main(json.loads({script!r}))
"""


@cache
def _modules() -> tuple[tuple[str, bytes], ...]:
    """Return the program's files: source, and byte code that only this Python takes."""
    made: list[tuple[str, bytes]] = []
    for entry in files("agenthost").joinpath("testing/fake_program").iterdir():
        if entry.name.endswith(".py"):
            name, text = f"{_PACKAGE}/{entry.name}", entry.read_bytes()
            code = marshal.dumps(compile(text, name, "exec", dont_inherit=True))
            made += [(name, text), (name + "c", importlib.util.MAGIC_NUMBER + _UNCHECKED + code)]
    return tuple(sorted(made))


class FakeCLI:
    """An executable for ``options.cli_path``; needs ``python3`` and ``/bin/sh`` where it runs, and no SDK.

    The n-th prompt plays the n-th turn. When there is none left, or there never was one, a prompt made by
    ``prompt`` plays its own steps, and any other is echoed as an assistant's text. A turn begins with a
    system message ``init`` and ends with a ResultMessage, whatever its steps are. At the end of stdin the
    program plays what it was asked for and exits, with 1 when the last result was an error.
    """

    def __init__(self, *turns: Sequence[Step], at_start: Sequence[Step] = (), stubborn: bool = False) -> None:
        """Make one.

        Args:
            turns: Steps for each prompt.
            at_start: Steps before anything is read: to die, stall or complain at once.
            stubborn: Neither the end of stdin nor SIGTERM ends the program.
        """
        script = {"start": list(at_start), "turns": [list(turn) for turn in turns], "stubborn": stubborn}
        self._script = json.dumps(script)

    # ---- where it runs

    def source(self, python: str = "python3") -> bytes:
        """Return the executable: a line for the shell and a zipapp. ``python`` is what runs it."""
        buffer = io.BytesIO()
        # Isolated and without site: it starts in the same time everywhere, whatever is installed.
        buffer.write(f'#!/bin/sh\nexec {python} -S -I "$0" "$@"\n'.encode())
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in self._members():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        return buffer.getvalue()

    def write(self, path: str | os.PathLike[str]) -> str:
        """Put the executable on this machine, and return its path for ``options.cli_path``."""
        with open(path, "wb") as file:
            file.write(self.source(sys.executable))
        os.chmod(path, 0o755)
        return os.fspath(path)

    async def put(self, sandbox: Sandbox, name: str = "claude") -> str:
        """Put the executable into a sandbox's working directory, and return its path there."""
        path = f"{sandbox.workdir}/{name}"
        await sandbox.write_file(path, self.source(), mode=0o755)
        return path

    def _members(self) -> Iterator[tuple[str, bytes]]:
        yield "__main__.py", _MAIN.format(script=self._script).encode()
        parts = _PACKAGE.split("/")
        for depth in range(len(parts)):
            # Without an entry of its own zipimport does not see a package that has no __init__.
            yield "/".join(parts[: depth + 1]) + "/", b""
        yield from _modules()

    # ---- what it emits

    @staticmethod
    def number(message: object) -> int | None:
        """Return the number of a message that a FakeCLI emitted: 1, 2, 3 ... over its whole life.

        None: it is no message of a FakeCLI. ``[FakeCLI.number(m) for m in messages]`` shows at once what was
        lost, repeated or out of order.
        """
        name = getattr(message, "uuid", None) or getattr(message, "data", {}).get("uuid") or ""
        return int(name.partition("-")[0]) if _MARK in name else None

    # ---- steps

    @staticmethod
    def prompt(*steps: Step) -> str:
        """Return a prompt that plays these steps, where the script has no turn for it."""
        return json.dumps(list(steps))

    @staticmethod
    def text(text: str) -> Step:
        """Say something: an AssistantMessage."""
        return {"do": "text", "text": text}

    @staticmethod
    def partials(count: int, size: int = 40) -> Step:
        """Emit ``count`` StreamEvents of ``size`` characters, if ``include_partial_messages`` is set."""
        return {"do": "partials", "count": count, "size": size}

    @staticmethod
    def tool(
        name: str,
        input: Mapping[str, Any] | None = None,
        *,
        ask: bool = False,
        result: str | None = None,
        is_error: bool = False,
        suggestions: Sequence[Mapping[str, Any]] = (),
        withdraw_at: str | None = None,
    ) -> Step:
        """Use a tool: ToolUseBlock, PreToolUse hooks, a question to ``can_use_tool``, ToolResultBlock.

        Args:
            name: ``mcp__server__tool`` is called on the in-process MCP server, where HostedAgent refuses it
                unless the options or an answer of the host approve it; any other tool does nothing.
            input: Its input, which hooks and ``can_use_tool`` may change.
            ask: Ask ``can_use_tool``, if there is one. Where it is denied the result is its message.
            result: What the tool says; None is its input as JSON.
            is_error: Whether the tool failed.
            suggestions: Permission suggestions of the question.
            withdraw_at: Take the question back when a control request of this kind comes
                (``set_model``), before it was answered.
        """
        call: dict[str, Any] = {
            "name": name,
            "input": dict(input or {}),
            "ask": ask,
            "result": result,
            "is_error": is_error,
            "suggestions": [dict(one) for one in suggestions],
            "withdraw_at": withdraw_at,
        }
        return {"do": "tools", "calls": [call]}

    @staticmethod
    def tools(*calls: Step) -> Step:
        """Use several tools at once: all questions are asked before the first answer is waited for."""
        return {"do": "tools", "calls": [one for call in calls for one in call["calls"]]}

    @staticmethod
    def hook(event: str, **input: Any) -> Step:
        """Call the hooks of an event; a SystemMessage ``hook_outputs`` tells what they returned."""
        return {"do": "hook", "event": event, "input": input}

    @staticmethod
    def model(prompt: str | None = None) -> Step:
        """Ask the Messages API at ``ANTHROPIC_BASE_URL`` and pass its answer on, in partial messages too.

        Tools that it wants are asked for and used as by ``tool``, and it is asked again with their results.
        A request whose answer is cut or an error is repeated up to ten times (``CLAUDE_CODE_MAX_RETRIES``),
        each time with a SystemMessage ``api_retry``; after that the turn's result is an error.
        """
        return {"do": "model", "prompt": prompt}

    @staticmethod
    def mirror(count: int, size: int = 40) -> Step:
        """Append ``count`` entries to the session store, if there is one; each has its ``number``, from 0."""
        return {"do": "mirror", "count": count, "size": size}

    @staticmethod
    def until(control: str) -> Step:
        """Wait until a control request of this kind (``set_model``) has come since the last such wait."""
        return {"do": "until", "control": control}

    @staticmethod
    def wait(seconds: float) -> Step:
        """Wait, or until an interrupt."""
        return {"do": "wait", "seconds": seconds}

    @staticmethod
    def stall(*, deaf: bool = False) -> Step:
        """Do nothing until an interrupt. ``deaf``: for ever, read nothing, and SIGTERM does not end it."""
        return {"do": "stall", "deaf": deaf}

    @staticmethod
    def raw(data: bytes) -> Step:
        """Write bytes to stdout as they are: half a line, no JSON, no UTF-8."""
        return {"do": "raw", "data": data.decode("latin-1")}

    @staticmethod
    def stderr(text: str, times: int = 1) -> Step:
        """Print a line to stderr, as often as ``times`` says."""
        return {"do": "stderr", "text": text, "times": times}

    @staticmethod
    def spawn(*argv: str, holds: bool = False) -> Step:
        """Start a program in a session of its own and leave it behind.

        Args:
            argv: The program and its arguments.
            holds: It keeps the stdout and stderr of the CLI open.
        """
        return {"do": "spawn", "argv": list(argv), "holds": holds}

    @staticmethod
    def report(path: str | os.PathLike[str]) -> Step:
        """Write a file that tells how the program was called, and that the script has come this far.

        The file appears as a whole. It holds a JSON object: ``argv``, ``env``, ``cwd``, ``pid``,
        ``children`` (process ids of what ``spawn`` started), and ``files``, with the ``text`` and the
        ``modes`` (of the file and of its directory, like ``"0o600"``) of each file that an argument names.
        """
        return {"do": "report", "path": os.fspath(path)}

    @staticmethod
    def refuse(*errors: str) -> Step:
        """Refuse to start, as the CLI does with a session to resume that is not there; for ``at_start``.

        The first request of the SDK is answered by a ResultMessage with these errors; the exit code is 1.
        """
        return {"do": "refuse", "errors": list(errors)}

    @staticmethod
    def leave(code: int, *, after_result: bool = False) -> Step:
        """Exit with this code; -9 is by SIGKILL.

        Args:
            code: The exit code, or the negative number of a signal.
            after_result: Exit once the turn has ended, and not at once.
        """
        return {"do": "leave", "code": code, "after_result": after_result}

    @staticmethod
    def result(**fields: Any) -> Step:
        """Say in which fields the turn's ResultMessage differs from that of a good turn."""
        return {"do": "result", "fields": fields}

    @staticmethod
    def no_result() -> Step:
        """End the turn without a ResultMessage."""
        return {"do": "result", "fields": None}

"""An agent's messages as a person reads them, live and in a log."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from claude_agent_sdk import Message, ResultMessage

    from agenthost.agent.progress import Progress

_LABEL_WIDTH = 9
_RESULT_LINES = 8
_SHORT = 300

# What tells most about a tool's call, in this order; the rest of the input is left out.
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "prompt", "description")
# Control characters, also the eight-bit ones and those that turn the direction of writing: what an agent
# prints must not move the cursor, rename the window or fill the clipboard of the person who watches.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return text in which nothing can control a terminal."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


class Screen(Console):
    """Where a command prints. Text is text: numbers and paths get no colours of their own."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, stderr=stderr)

    def on_broken_pipe(self) -> None:
        """Raise what it is: an exit in the middle of a task would skip what has to be cleaned up."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Transcript:
    """Prints what happens, one labelled entry each, as soon as it happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status = console.status("")
        # The SDK takes a second to import; it is there by the time that a message is.
        self.result: ResultMessage | None = None

    def waiting(self) -> AbstractContextManager[object]:
        """Show on a terminal that something goes on, and what, while the block is open."""
        # Rich takes over stdout meanwhile, which must not happen when stdout is data and this is stderr.
        shown = self._console.is_terminal and not self._console.stderr
        return self._status if shown else nullcontext()

    def step(self, text: str) -> None:
        """Print a step of the host's own work with the seconds since the start."""
        self._status.update(Text(printable(text), style="dim"))
        self._entry(f"{time.monotonic() - self._began:6.1f} s", text, "dim")

    def progress(self, progress: Progress) -> None:
        """Print what a HostedAgent is doing before and after the turn; for its ``on_progress``."""
        self.step(progress.message)

    def note(self, label: str, text: str, style: str = "yellow") -> None:
        """Print what somebody else than the agent has to say."""
        self._entry(label, text, style)

    def question(self, tool: str, given: dict[str, Any]) -> None:
        """Print that the agent asks whether it may use a tool, with all that it would be given."""
        line = json.dumps(given, ensure_ascii=False)
        shown = line if len(line) <= _SHORT else json.dumps(given, ensure_ascii=False, indent=2)
        self._entry("asks", f"{tool} {shown}", "bold yellow")

    def prompt(self, text: str) -> None:
        """Print what is asked."""
        self._status.update(Text("the agent works", style="dim"))
        self._entry("you", text, "bold")

    def show(self, message: Message) -> None:
        """Print a message of the agent. A ResultMessage is kept as ``result``."""
        import claude_agent_sdk as sdk

        match message:
            case sdk.AssistantMessage():
                for block in message.content:
                    self._block(block)
            case sdk.UserMessage() if not isinstance(message.content, str):
                for block in message.content:
                    self._block(block)
            case sdk.SystemMessage(subtype="api_retry"):
                self._entry(
                    "model", f"no answer, trying again ({message.data.get('error_status')})", "yellow"
                )
            case sdk.ResultMessage():
                self.result = message
                self._result(message)
            case _:
                pass

    def _block(self, block: object) -> None:
        import claude_agent_sdk as sdk

        match block:
            case sdk.TextBlock():
                self._entry("claude", block.text, "")
            case sdk.ThinkingBlock() if block.thinking:
                self._entry("thinks", _shorten(block.thinking, 2), "dim italic")
            case sdk.ToolUseBlock():
                self._entry("tool", f"{block.name} {_telling(block.input)}".rstrip(), "cyan")
            case sdk.ToolResultBlock():
                style = "red" if block.is_error else "dim"
                self._entry(
                    "failed" if block.is_error else "result", _shorten(_text_of(block.content)), style
                )
            case _:
                pass

    def _result(self, result: ResultMessage) -> None:
        cost = "" if result.total_cost_usd is None else f", ${result.total_cost_usd:.4f}"
        turns = "1 turn" if result.num_turns == 1 else f"{result.num_turns} turns"
        text = f"{turns}, {result.duration_ms / 1000:.1f} s{cost}"
        if result.is_error:
            why = result.result or ", ".join(result.errors or []) or result.subtype
            self._entry("failed", f"{why} ({text})", "bold red")
        else:
            self._entry("done", text, "green")

    def _entry(self, label: str, text: str, style: str) -> None:
        lines = printable(text).rstrip("\n").split("\n")
        shown = Text()
        for number, line in enumerate(lines):
            head = label.ljust(_LABEL_WIDTH) if number == 0 else " " * _LABEL_WIDTH
            shown.append(head, style="bold dim").append(line + "\n", style=style)
        # Soft wrap: a log keeps its long lines, a terminal wraps them itself.
        self._console.print(shown, soft_wrap=True, end="")


def _telling(value: dict[str, Any]) -> str:
    for key in _TELLING:
        if isinstance(value.get(key), str):
            return _shorten(value[key], 4)
    return _shorten(json.dumps(value), 1) if value else ""


def _text_of(content: str | list[dict[str, Any]] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", f"({block.get('type')})")) for block in content)


def _shorten(text: str, lines: int = _RESULT_LINES) -> str:
    found = [line if len(line) <= _SHORT else line[:_SHORT] + " ..." for line in text.rstrip().split("\n")]
    if len(found) > lines:
        found[lines:] = [f"... {len(found) - lines} more lines"]
    return "\n".join(found) or "(nothing)"

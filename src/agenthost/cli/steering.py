"""A person's side of an attached agent: what is typed, what is decided, when a turn is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from agenthost.agent import HostedAgent
from agenthost.agent.sdk import loaded_sdk
from agenthost.cli.finishing import CannotFinishError
from agenthost.cli.transcript import Transcript
from agenthost.cli.typed import TypedLines

if TYPE_CHECKING:
    from claude_agent_sdk import Message

_YES, _NO = ("y", "yes"), ("n", "no")
_DENIED = "the user said no"
_NOBODY = "nobody can answer that here: attach from a terminal, or with --answer"


class Answer(Enum):
    """What to say when the agent asks whether it may use a tool."""

    ask = "ask"
    allow = "allow"
    deny = "deny"


class _Question:
    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.allowed = False


class Steering:
    """Connects a person with one agent.

    Args:
        transcript: Where the person reads.
        answer: What is said to questions; ``ask`` asks the person, if there is one.
        finish: The agent is only brought to its end: no prompts are taken, and no question may stay open.

    Attributes:
        agent: The agent; set it before anything is called.
        works: Whether a turn is running, as far as was heard.
    """

    def __init__(self, transcript: Transcript, *, answer: Answer, finish: bool) -> None:
        self.agent: HostedAgent | None = None
        self.works = False
        self._transcript = transcript
        self._answer = answer
        self._finish = finish
        self._lines = TypedLines()
        self._listens = False
        self._person = self._lines.is_terminal  # as far as is known
        self._asking = anyio.Lock()
        self._question: _Question | None = None
        self._unanswered = anyio.Event()
        self._pressed = False
        self._interrupt = anyio.Event()

    @property
    def reads(self) -> bool:
        """Whether lines are to be read: prompts, or answers of a person."""
        return not self._finish or self._person

    def greet(self) -> None:
        """Tell a person who could not know what to do here."""
        if self._person and not self._finish:
            self._transcript.note(
                "", "each line is a prompt; Ctrl-C interrupts, Ctrl-D leaves the agent running", "dim"
            )

    # ---- what the agent says

    async def listen(self, show: Callable[[Message], None], heard: Callable[[int], None]) -> None:
        """Show messages until the agent has ended.

        Args:
            show: Gets each message.
            heard: Gets the number of each event that was shown.
        """
        agent, sdk = self._here(), loaded_sdk()
        self._listens = True
        while True:
            try:
                async for message in agent.receive_messages():
                    show(message)
                    self.works = not isinstance(message, sdk.ResultMessage)
                    self._pressed = self._pressed and self.works
                    heard(agent.cursor.seq)
            except sdk.ClaudeSDKError as error:
                if type(error).__name__ != "MessageParseError":
                    raise
                # One message that this SDK cannot read; those behind it may be fine.
                self._transcript.note("", f"a message cannot be read: {error}", "red")
            else:
                return

    # ---- what is typed

    async def read(self) -> None:
        """Take lines until their end: answers while a question is open, prompts otherwise."""
        async for line in self._lines:
            text = line.strip()
            while self._asking.locked() and self._question is None:
                await anyio.lowlevel.checkpoint()  # the next question is about to be shown
            if self._question is not None:
                self._decided(self._question, text.lower())
            elif text and self._finish:
                self._transcript.note("", "with --finish no prompts are taken", "dim")
            elif text:
                if not self._person:
                    self._transcript.prompt(text)
                self.works, self._pressed = True, False
                await self._here().query(line)
        self._person = False
        if self._question is not None:
            self._unanswered.set()

    def _decided(self, question: _Question, text: str) -> None:
        if text in (*_YES, *_NO):
            question.allowed = text in _YES
            question.answered.set()
            self._question = None  # another line is no answer to this one
        else:
            self._transcript.note("", "allow it? y or n", "bold yellow")

    # ---- what is decided

    async def can_use_tool(self, tool: str, given: dict[str, Any], _context: object) -> Any:
        """Answer the agent's question; waits as long as it takes."""
        sdk = loaded_sdk()
        allowed = await self._decide(tool, given)
        return sdk.PermissionResultAllow() if allowed else sdk.PermissionResultDeny(message=_DENIED)

    async def _decide(self, tool: str, given: dict[str, Any]) -> bool:
        async with self._asking:  # one after the other
            self._transcript.question(tool, given)
            if self._answer is not Answer.ask:
                self._transcript.note("", f"--answer {self._answer.value}", "dim")
                return self._answer is Answer.allow
            if self._person:
                return await self._ask()
        self._transcript.note("", f"{_NOBODY}; it stays open", "bold yellow")
        self._unanswered.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def _ask(self) -> bool:
        question = self._question = _Question()
        self._transcript.note("", "allow it? y or n", "bold yellow")
        try:
            await question.answered.wait()
        finally:
            if self._question is question:
                self._question = None
                self._transcript.note("", "that is not asked any more", "dim")
        return question.allowed

    async def unanswered(self) -> None:
        """Return never; raise when a question came that nobody can answer here.

        Raises:
            CannotFinishError: It came.
        """
        await self._unanswered.wait()
        raise CannotFinishError(f"the agent asks whether it may use a tool, and {_NOBODY}")

    # ---- Ctrl-C

    def on_interrupt(self) -> bool:
        """Have the running turn interrupted; False when there is none, or it was interrupted already."""
        if not self._listens or not self.works or self._pressed or self._finish:
            return False
        self._pressed = True
        self._interrupt.set()
        return True

    async def interrupts(self) -> None:
        """Interrupt the agent whenever Ctrl-C is pressed. Returns never."""
        while True:
            await self._interrupt.wait()
            self._interrupt = anyio.Event()
            self._transcript.note("", "interrupting the turn; Ctrl-C again leaves the agent alone", "dim")
            await self._here().interrupt()

    def _here(self) -> HostedAgent:
        assert self.agent is not None
        return self.agent

"""What the agent asks the host: each question stays open until it is answered, whoever is the host then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agenthost.runner.journal import Journal
from agenthost.wire.codec import Codec


class HostError(Exception):
    """The function on the host raised, or the host could not call it; the text is its own."""


@dataclass
class _Question:
    event: dict[str, Any]
    answer: asyncio.Future[Any]
    # What to answer instead of asking another host, when one may have begun to act on it; None: ask again.
    unknown: Callable[[], Any] | None
    # What to answer when nobody is there to decide; None: wait.
    denial: Callable[[], Any] | None
    end: int  # how long the journal was when it had been asked


class Requests:
    """Asks by the journal; answers come by the agent's input.

    A new driver is asked again what is still open, after it has said ``attach``: whatever an older one was
    asked lies before that in the journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._codec = Codec({})
        self._open: dict[int, _Question] = {}
        self._next = 1
        self._epoch = 0
        self._present = True
        self._patience: float | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def configure(self, codec: Codec, *, patience: float | None) -> None:
        """Say how values cross, and how many seconds a decision waits with no driver; None is for ever."""
        self._codec = codec
        self._patience = patience

    async def ask(
        self,
        what: str,
        *,
        unknown: Callable[[], Any] | None = None,
        denial: Callable[[], Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Ask the host and return what it answers.

        Args:
            what: What kind of question it is.
            unknown: Makes the answer if a host that is gone may have acted on the question already.
            denial: Makes the answer if no host is there for too long.
            fields: The question, of what the codec takes.

        Raises:
            HostError: The host's function raised.
        """
        number, self._next = self._next, self._next + 1
        event = {"id": number, "what": what, **{key: self._codec.encode(v) for key, v in fields.items()}}
        self._journal.emit("request", **event)
        question = _Question(event, self._loop.create_future(), unknown, denial, self._journal.size)
        self._open[number] = question
        if not self._present:
            self._deny_later()
        try:
            return await question.answer
        except asyncio.CancelledError:
            self._journal.emit("request_cancelled", id=number)
            raise
        finally:
            del self._open[number]
            if not question.answer.cancelled():
                self._journal.emit("answered", id=number)  # for those who only read: it is open no more

    # ---- what the host says

    def answer(self, operation: dict[str, Any]) -> None:
        """Take an answer. One to a question that is not open is refused, and told."""
        question = self._open.get(operation["id"])
        if question is None or question.answer.done():
            self._journal.emit("answer_refused", id=operation["id"])
        elif operation["ok"]:
            try:
                question.answer.set_result(self._codec.decode(operation["result"]))
            except ValueError as error:
                question.answer.set_exception(HostError(f"the answer cannot be read: {error}"))
        else:
            question.answer.set_exception(HostError(str(operation["error"])))

    def attach(self, state: dict[str, Any]) -> None:
        """A new driver is ready to be asked: tell it how things are, and ask again what is open."""
        self._journal.emit("state", state="attached", epoch=self._epoch, **state)
        for question in self._open.values():
            if not question.answer.done():
                self._journal.emit("request", **question.event, again=True)

    # ---- what the guest says

    def driver(self, epoch: int, *, present: bool, shown: int) -> None:
        """Take note of who drives.

        Args:
            epoch: Counts the drivers.
            present: Whether the driver's link is up.
            shown: How many bytes of the journal a driver may have seen.
        """
        if epoch > self._epoch:
            first, self._epoch = self._epoch == 0, epoch
            if not first:
                self._settle(shown)
        if present != self._present:
            self._present = present
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            if not present:
                self._deny_later()

    def _settle(self, shown: int) -> None:
        """Answer what must not be done twice and may have been begun."""
        for question in self._open.values():
            if question.unknown is not None and question.end <= shown and not question.answer.done():
                question.answer.set_result(question.unknown())

    def _deny_later(self) -> None:
        if self._patience is not None and any(one.denial for one in self._open.values()):
            asked = tuple(self._open.values())
            self._timers.append(self._loop.call_later(self._patience, self._deny, asked))

    def _deny(self, asked: tuple[_Question, ...]) -> None:
        for question in asked:
            if question.denial is not None and not question.answer.done():
                try:
                    question.answer.set_result(question.denial())
                except HostError as error:
                    question.answer.set_exception(error)

"""The agent's journal as the host reads it: messages kept raw until they are asked for."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from agenthost.agent.answering import Answers
from agenthost.agent.attachment import Attachment
from agenthost.agent.audit.trail import AuditTrail
from agenthost.agent.ref import Cursor
from agenthost.agent.store import Append
from agenthost.agent.usage import Usage
from agenthost.errors import AgentEndedError, AgentError, AgentHostError, ConfigError, ReplayGapError
from agenthost.log_once import LogOnce, shortened
from agenthost.wire.fields import WRONG_SHAPE
from agenthost.wire.json_bounds import load_json, values_at_most

_log = logging.getLogger("agenthost.agent")

# Unread messages beyond this stall the reader here, then the link, the guest's spool and the agent.
_HIGH_WATER = 8 * 1024 * 1024
_WAITING_WATER = 64 * 1024 * 1024  # the same while somebody waits for what lies behind them
_ACK_EVERY = 256 * 1024
_LONGEST_LINE = 128 * 1024 * 1024  # bytes of an event; the wire's own bound of a line of input
_EXIT_CODE_SECONDS = 5.0
_KILLED = 137  # the exit code of SIGKILL

# The third field of a line and nothing behind it: a tool's own input may have a key "kind", too.
_MESSAGE = re.compile(rb'\{"seq":\d{1,16},"ts":[\d.]{1,32},"kind":"message",')
_RESULT = b'"message":{"$type":"ResultMessage"'
_INIT = b'"message":{"$type":"SystemMessage","subtype":"init"'
_RESET = b'"message":{"$type":"ConversationResetMessage"'
_FAULT_SIZE = 1024  # bytes that a fault counts for among the unread
_BEGIN = b'{"seq":'  # every event begins so
_DIGITS = 24  # bytes behind it that hold the whole number
_HEAD = 200  # bytes: the runner writes what is looked for at the beginning of a line


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception in the place of a message.

    Attributes:
        seq: The event's number.
        error: The exception as data.
    """

    seq: int
    error: Mapping[str, Any]


class Source(Protocol):
    """Where the journal comes from: an AgentChannel."""

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` when the runner has ended."""
        ...

    @property
    def received(self) -> int:
        """Offset behind what ``receive`` has returned."""
        ...

    def ack(self, offset: int) -> None:
        """Say that everything below ``offset`` is wanted no more."""
        ...

    async def wait(self) -> int:
        """Return the runner's exit code."""
        ...

    def stderr_tail(self) -> bytes:
        """Return the end of the runner's own stderr."""
        ...


class _Waiter:
    """Somebody who waits for a reply."""

    __slots__ = ("event", "reply", "too_far")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.too_far = False
        self.reply: Mapping[str, Any] | None = None


class Journal:
    """Takes events from the channel and sorts them."""

    def __init__(
        self,
        source: Source,
        *,
        stderr: Callable[[str], None] | None,
        answers: Answers | None = None,
        audit: AuditTrail | None = None,
        manual_ack: bool = False,
    ) -> None:
        self.usage = Usage()
        self.session_id: str | None = None
        self.ready: Mapping[str, Any] | None = None
        self.connected = False
        self.busy = False
        self.ended = False
        self.fault: Mapping[str, Any] | None = None
        self.failure: Exception | None = None
        self._source = source
        self._stderr = stderr
        self._stderr_raised = False
        self._warnings = LogOnce(_log)
        self._answers = answers
        self._audit = audit or AuditTrail()
        self._manual_ack = manual_ack
        self._places = False  # begun at a byte that may lie within a line
        self._unproven = False  # begun at a cursor that may be none
        self._skip: int | None = None  # events up to this one are not wanted
        self._given: Cursor | bytes = Cursor()  # what was handed out last: its cursor, or its line
        self._part = bytearray()  # of a line whose end is not here yet
        self._offset = 0
        self._unread: deque[tuple[bytes | Fault | Append, int]] = deque()
        self._size = 0
        self._consumed = 0
        self._acked = 0
        self._has_end = False
        self._drain = False
        self._numbers = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._news = anyio.Event()
        self._room = anyio.Event()
        self.begun = False  # something of it has come, or it has ended

    def begin(self, attachment: Attachment) -> None:
        """Begin elsewhere than at the beginning. Call before ``run``."""
        start = attachment.start
        self.session_id = attachment.ref.session_id
        if start is None:
            self._places, self._skip = True, attachment.skip
        else:
            self._offset = self._consumed = self._acked = start.offset
            self._unproven = True
        self._given = start or attachment.ref.cursor

    @property
    def cursor(self) -> Cursor:
        """The place behind the message that was handed out last."""
        if isinstance(self._given, bytes):
            self._given = Cursor(_number(self._given), self._consumed)
        return self._given

    # ---- reading

    async def run(self) -> None:
        """Read to the end of the journal. Never raises: what went wrong is in ``failure``."""
        try:
            while data := await self._source.receive():
                if self._places:
                    data = self._find_line(data)
                elif self._unproven:
                    self._prove(data)
                self.begun = True
                self._take(data)
                self._let_go()
                while self._is_full():
                    await self._make_room()
            if not self._has_end:
                self.failure = await self._why()
        except AgentHostError as error:
            self.failure = error
        except WRONG_SHAPE as error:
            # As the runner writes no event, and whatever else inside can write one.
            self.failure = AgentError(f"the agent's journal cannot be read: {shortened(repr(error))}")
        except Exception as error:  # noqa: BLE001 - a defect; told, because silence would be a hang
            _log.exception("the journal cannot be read")
            self.failure = AgentError(f"the agent's journal cannot be read: {error}")
        finally:
            if self.failure is None and not self._has_end:
                self.failure = AgentEndedError("the agent was closed before it had told its end")
            self.begun = self.ended = True
            if self._answers is not None:
                self._answers.stop()
            self._wake()
            for waiter in self._waiters.values():
                waiter.event.set()

    def _is_full(self) -> bool:
        if self._drain:
            return self._size > _HIGH_WATER  # of what the store has not written yet
        if self._size > _WAITING_WATER:
            # The answer may lie behind as much as the guest keeps. Who waits is told to read first.
            for waiter in self._waiters.values():
                waiter.too_far = True
                waiter.event.set()
            return True
        # Whoever waits for a reply gets it, even if it lies behind more messages than are kept otherwise.
        return self._size > _HIGH_WATER and not self._waiters

    async def _make_room(self) -> None:
        if self._drain and isinstance(first := self._unread[0][0], Append):
            await first.done.wait()
            self._let_go()
        else:
            self._room = anyio.Event()
            await self._room.wait()

    async def _why(self) -> Exception:
        code: int | None = None
        with anyio.move_on_after(_EXIT_CODE_SECONDS):
            code = await self._source.wait()
        tail = self._source.stderr_tail().decode("utf-8", "replace").strip()
        told = f":\n{tail}" if tail else ""
        if code == _KILLED:
            told = f"; it was killed, as the kernel does when memory runs out{told}"
        return AgentError(f"the runner ended with exit code {code} before it could tell why{told}")

    def _find_line(self, data: bytes) -> bytes:
        """Return what of the first bytes are whole events: the oldest that are kept may be the end of one."""
        if not self._part:
            self._offset = self._source.received - len(data)
        data, self._part = bytes(self._part) + data, bytearray()
        if not data.startswith(_BEGIN) and not _BEGIN.startswith(data[: len(_BEGIN)]):
            _, newline, rest = data.partition(b"\n")
            if not newline:
                self._offset += len(data)
                return b""
            self._offset += len(data) - len(rest)
            data = rest
        if len(data) < len(_BEGIN) + _DIGITS:
            self._part = bytearray(data)
            return b""
        self._places = False
        self._check_skip(data)
        self._begin_at(Cursor(_number(data) - 1, self._offset))
        return data

    def _begin_at(self, cursor: Cursor) -> None:
        """Nothing was handed out yet: what is wanted begins here."""
        self._given, self._consumed, self._acked = cursor, cursor.offset, cursor.offset

    def _let_go(self) -> None:
        """While nobody wants messages any more: make room for what comes, behind what the store has."""
        if not self._drain or self.ended:
            return
        while self._unread and isinstance(first := self._unread[0][0], Append) and first.done.is_set():
            self._unread.popleft()
            self._size -= first.size
        if not self._unread:
            self._ack(self._offset)

    def _prove(self, data: bytes) -> None:
        self._unproven = False
        if not data.startswith(_BEGIN[: len(data)]):
            raise ConfigError(f"cursor {self.cursor} is none of this agent's: no event begins there")

    def _check_skip(self, data: bytes) -> None:
        if self._skip is not None and (first := _number(data)) > self._skip + 1:
            message = f"the journal begins at event {first} by now, {self._skip + 1} was asked for"
            raise ReplayGapError(message, wanted=self._skip + 1, oldest=first, unit="event")

    def _take(self, data: bytes) -> None:
        # A line is put together once, at its end: it may be 64 MiB long and come in a million pieces.
        begin = 0
        while (end := data.find(b"\n", begin)) >= 0:
            line = data[begin:end]
            begin = end + 1
            if self._part:
                line, self._part = bytes(self._part + line), bytearray()
            self._offset += len(line) + 1
            if self._skip is not None:
                if _number(line) <= self._skip:
                    self._begin_at(Cursor(_number(line), self._offset))
                    continue
                self._skip = None
            # What is logged is logged before it is acted on, and before the guest forgets it.
            if _MESSAGE.match(line):
                self._audit.message(line, self._offset)
                if any(line.find(one, 0, _HEAD) >= 0 for one in (_RESULT, _INIT, _RESET)):
                    self._look_at(load_json(line)["message"])
                self._keep(line, len(line))
            else:
                event = load_json(line)
                self._audit.event(event, self._offset, len(line))
                self._sort(event, line)
        self._part += data[begin:]
        if len(self._part) > _LONGEST_LINE:
            raise AgentError(f"an event of the agent is longer than {_LONGEST_LINE >> 20} MiB")
        self._wake()

    def _keep(self, item: bytes | Fault | Append, size: int) -> None:
        if not self._drain or isinstance(item, Append):
            self._unread.append((item, self._offset))
            self._size += size

    def _look_at(self, message: Mapping[str, Any]) -> None:
        if message["$type"] == "ResultMessage":
            self.usage = self.usage.plus(message)
            self.session_id = _text(message.get("session_id")) or self.session_id
        elif message["$type"] == "ConversationResetMessage":
            self.usage = self.usage.begin_again()
        else:
            self.session_id = _text(message["data"].get("session_id")) or self.session_id

    def _sort(self, event: dict[str, Any], line: bytes) -> None:
        match event["kind"]:
            case "stderr":
                self._tell_stderr(event)
            case "reply":
                waiter = self._waiters.get(event["id"])
                # Each driver counts its calls from 1: a reply before the agent's word that it takes this
                # driver is one to the driver before.
                if waiter is not None and not (self._answers is not None and self._answers.waits):
                    waiter.reply = event
                    waiter.event.set()
            case "state":
                self._change(event)
            case "fault":
                self._keep(Fault(event["seq"], event["error"]), _FAULT_SIZE)
            case "request":
                if self._answers is not None:
                    self._answers.request(event, size=len(line), values=values_at_most(line))
            case "request_cancelled" | "answered":  # by another: a denial, for one
                if self._answers is not None:
                    self._answers.cancelled(event["id"])
            case "answer_refused":
                refused = "the agent took no answer to its question %s any more"
                self._warnings.warning("refused", refused, event["id"])
            case "store_append":
                append = self._answers.append(event, len(line)) if self._answers is not None else None
                if append is not None:
                    self._keep(append, len(line))
            case "end":
                self._has_end = True
                self.fault = event["error"]
            case kind:
                _log.debug("an event of kind %s is not known here", shortened(kind))

    def _change(self, event: dict[str, Any]) -> None:
        match event["state"]:
            case "ready":
                self.ready = event
            case "connected":
                self.connected = True
            case "busy" | "idle":
                self.busy = event["state"] == "busy"
                if self._answers is not None and not self.busy:
                    self._answers.turn_ended()
            case "attached":
                self.connected, self.busy = event["connected"], event["busy"]
                self.session_id = _text(event["session_id"]) or self.session_id
                if not event.get("begun", True):
                    raise AgentError("this agent was never connected: its host ended before; start another")
                if self._answers is not None:
                    self._answers.attached(event["epoch"])
            case state:  # it waits for a host, for one; a newer runner says more
                _log.info("the agent says: %s", shortened(state))

    def _tell_stderr(self, event: dict[str, Any]) -> None:
        if event.get("dropped"):
            self._warnings.warning("dropped", "%s lines of the agent's stderr were dropped", event["dropped"])
        line = str(event["line"])
        if self._stderr is None:
            _log.debug("stderr: %s", shortened(line))
            return
        try:
            self._stderr(line)
        except Exception:  # noqa: BLE001 - as in the SDK: a callback that raises ends no agent
            # Once: with --debug the CLI prints hundreds of lines.
            level, self._stderr_raised = (logging.DEBUG if self._stderr_raised else logging.ERROR), True
            _log.log(level, "options.stderr raised", exc_info=True)

    def _wake(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    # ---- for those who wait

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Wait until something is so; False when the journal ended before."""
        while not condition():
            if self.ended:
                return False
            await self._news.wait()
        return True

    async def next(self) -> bytes | Fault | Append | None:
        """Return the next message's line, or a fault to be raised in its place; None at the end.

        What the session store lost stands where its messages would have been: an Append with an error.
        Asking for the next one says that the one before will never be asked for again.
        """
        while True:
            while not self._unread:
                self._acknowledge(self._offset)
                if self.ended:
                    return None
                await self._news.wait()
            first = self._unread[0][0]
            if isinstance(first, Append) and not first.done.is_set():
                await first.done.wait()
                continue  # another reader may have taken it meanwhile
            item = self._take_unread()
            if not isinstance(item, Append) or item.error is not None:
                return item

    def _take_unread(self) -> bytes | Fault | Append:
        if self._consumed - self._acked >= _ACK_EVERY:
            self._acknowledge(self._consumed)
        item, self._consumed = self._unread.popleft()
        self._given = item if isinstance(item, bytes) else Cursor(item.seq, self._consumed)
        match item:
            case bytes():
                self._size -= len(item)
            case Append():
                self._size -= item.size
            case _:
                self._size -= _FAULT_SIZE
        if self._size <= _HIGH_WATER // 2:
            self._room.set()
        return item

    def acknowledge(self, cursor: Cursor) -> None:
        """Say that what lies before a cursor will never be asked for again. ConfigError: it was not read."""
        if cursor.offset > self._consumed:
            raise ConfigError(f"cursor {cursor} is beyond what was read, {self.cursor}")
        if cursor.offset > self._acked and not self.ended:
            self._acked = cursor.offset
            self._source.ack(cursor.offset)

    def _acknowledge(self, offset: int) -> None:
        if offset > self._acked and not self.ended and not self._manual_ack:
            self._acked = offset
            self._ack(offset)

    def _ack(self, offset: int) -> None:
        # That an agent is out of reach is told at the journal's end, behind what has arrived.
        with contextlib.suppress(AgentHostError):
            self._source.ack(offset)

    def open_call(self) -> int:
        """Return the number of a new call; its reply is kept for ``reply``."""
        number = next(self._numbers)
        self._waiters[number] = _Waiter()
        self._room.set()
        return number

    async def reply(self, number: int) -> Mapping[str, Any] | None:
        """Return a call's reply, None when the journal ended without it.

        Raises:
            AgentError: It lies too far behind messages that nobody reads.
        """
        waiter = self._waiters[number]
        if not self.ended:
            await waiter.event.wait()
        if waiter.too_far and waiter.reply is None and not self.ended:
            size = f"{_WAITING_WATER >> 20} MiB"
            raise AgentError(f"the answer lies behind more than {size} of messages: read them first")
        return waiter.reply

    async def wait_end(self) -> None:
        """Return at the end of the journal, also when it lies behind messages that nobody reads.

        Raises:
            AgentError: It lies too far behind.
        """
        number = self.open_call()
        try:
            await self.reply(number)
        finally:
            self.close_call(number)

    def close_call(self, number: int) -> None:
        """Forget a call."""
        self._waiters.pop(number, None)

    def drain(self) -> None:
        """Want no more messages: read on to the end without them."""
        self._drain = True
        self._unread = deque((one, end) for one, end in self._unread if isinstance(one, Append))
        self._size = sum(one.size for one, _ in self._unread if isinstance(one, Append))
        self._let_go()
        self._room.set()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(line: bytes) -> int:
    """Return the number of an event."""
    start = len(_BEGIN)
    return int(line[start : line.index(b",", start)])

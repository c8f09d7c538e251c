"""One agent over a link: its input, its journal, its model traffic."""

from __future__ import annotations

import errno
import json
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from agenthost.errors import AgentEndedError, AgentHostError, ConfigError, SupersededError
from agenthost.link.answers import reading
from agenthost.link.arguments import start_params
from agenthost.link.flows import Inflow, Outflow
from agenthost.link.session import Session
from agenthost.link.tokens import TokenMaker
from agenthost.wire.frames import Data
from agenthost.wire.json_bounds import load_json
from agenthost.wire.tokens import DRIVER, OBSERVER

_KILLING = 10.0  # seconds that killing a runner may take before its block is left without its answer
_STDERR_TAIL = 64 * 1024  # bytes kept of the runner's own stderr
_LONGEST_HEAD = 256 * 1024  # bytes of an exchange's head


@dataclass(frozen=True, slots=True)
class ExchangeHead:
    """What the agent asks of the model: without its key."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]


class Exchange:
    """One model request of the agent, and the answer to it."""

    def __init__(self, session: Session, agent: str, sid: str, answer_sid: str) -> None:
        self.sid = sid
        self._session = session
        self._agent = agent
        self._request: Inflow | None = None  # subscribed to in ``head``: until then nothing of it comes
        self._answer: Outflow = session.outflow(answer_sid)
        self._rest = b""
        self._gone = anyio.Event()
        self._complete = self._closed = False
        self._hung_up = ConnectionResetError(errno.ECONNRESET, "the agent has hung up")

    async def head(self) -> ExchangeHead:
        """Return the request's head. Call once, before ``receive``."""
        if self._gone.is_set():
            raise self._hung_up
        request = self._request = self._session.inflow(self.sid)
        request.missing = self._hung_up
        data = bytearray()
        while b"\n" not in (piece := await request.receive()):
            data += piece
            if not piece or len(data) > _LONGEST_HEAD:
                raise AgentHostError("the guest sent a model request without a head")
        rest, _, self._rest = piece.partition(b"\n")
        with reading("the head of a model request"):
            head = load_json(bytes(data + rest))
            headers = tuple((str(name), str(value)) for name, value in head["headers"])
            return ExchangeHead(str(head["method"]), str(head["path"]), headers)

    async def receive(self) -> bytes:
        """Return the next bytes of the request's body, ``b""`` at the end.

        Raises:
            ConnectionResetError: The agent hung up before the end.
        """
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        assert self._request is not None, "head comes first"
        return await self._request.receive()

    async def send_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Answer with a status and headers. Call once, before ``send``."""
        head = {"status": status, "headers": [list(pair) for pair in headers]}
        await self._answer.send(json.dumps(head).encode() + b"\n")

    async def send(self, data: bytes) -> None:
        """Send bytes of the answer; waits while the agent does not read. ConnectionError: it hung up."""
        await self._answer.send(data)

    def end(self) -> None:
        """The answer is complete."""
        self._complete = True
        self._answer.end()

    async def cut(self) -> None:
        """Break the answer off: the agent sees a closed connection and asks again by itself."""
        await self._session.call("cut", {"agent": self._agent, "stream": self._answer.sid})

    async def wait_gone(self) -> None:
        """Return when the agent is done with the exchange, or has hung up."""
        await self._gone.wait()

    def gone(self, error: Exception | None = None) -> None:
        """For the channel: the guest is done with it, or this host with the agent."""
        self._gone.set()
        if self._request is not None:
            self._request.fail(error or self._hung_up)
        self._answer.fail(error or self._hung_up)
        if self._closed:
            self._session.close_outflow(self._answer)

    def close(self) -> bool:
        """Be done with both streams, with a complete answer when the agent has it; False as long as not."""
        self._closed = True
        if self._request is not None:
            self._session.close_inflow(self._request)
        if self._complete and not self._gone.is_set():
            return False
        self._session.close_outflow(self._answer)
        self._gone.set()
        return True


class AgentChannel:
    """Drives one agent. Input goes in whole lines; the journal comes as bytes, in order."""

    def __init__(self, session: Session, agent: str, *, lasting: bool = False) -> None:
        self.agent = agent
        self.lasting = lasting  # the agent runs on when the block is left
        self.remembered = False  # killed, it can still be attached to: until its sandbox ends
        self.released = False  # the guest has said that the agent has ended
        self.epoch = 0  # counts the agent's drivers
        self.error: Exception | None = None
        self._session = session
        self._exchanges: deque[Exchange] = deque()
        self._open: dict[str, Exchange] = {}
        self._news = anyio.Event()
        self._tail = b""
        self._flows: tuple[Inflow, Inflow, Outflow] | None = None

    @property
    def superseded(self) -> bool:
        """Whether another driver has taken the agent."""
        return isinstance(self.error, SupersededError)

    def drive(self, epoch: int, offset: int, *, after: int | None) -> None:
        """For ``open_channel``: the driver's role was given; go on at this offset of the input."""
        self.epoch = epoch
        journal = self._session.inflow(f"a/{self.agent}/out", offset=after, auto_ack=False)
        stderr = self._session.inflow(f"a/{self.agent}/err")
        stderr.sink = self._keep_tail
        self._flows = (journal, stderr, self._session.outflow(f"a/{self.agent}/in", base=offset))

    async def send(self, line: bytes) -> None:
        """Send a line of input, with its newline; returns when it is buffered."""
        await self._driving()[2].send(line)

    async def receive(self) -> bytes:
        """Return the next bytes of the journal, ``b""`` when the runner has ended."""
        return await self._driving()[0].receive()

    @property
    def received(self) -> int:
        """Offset in the journal behind what ``receive`` has returned."""
        return self._driving()[0].consumed

    async def flushed(self) -> None:
        """Return when the guest has everything that was sent."""
        await self._driving()[2].flushed()

    def ack(self, offset: int) -> None:
        """Say that the journal below ``offset`` will never be asked for again."""
        self._driving()[0].acknowledge(offset)

    async def next_exchange(self) -> Exchange:
        """Return the next model request. The caller closes it."""
        while not self._exchanges:
            self._check()
            await self._news.wait()
        return self._exchanges.popleft()

    def close_exchange(self, exchange: Exchange) -> None:
        """Be done with a model request. A complete answer still reaches the agent."""
        # The guest may have opened another one of this name since: that one still has to hear of its end.
        if exchange.close() and self._open.get(exchange.sid) is exchange:
            del self._open[exchange.sid]

    async def signal(self, signum: int) -> None:
        """Signal the runner's process group."""
        await self._session.call("signal", {"agent": self.agent, "signum": int(signum)})

    async def wait(self) -> int:
        """Return the runner's exit code (128 + N for signal N)."""
        return await _exit_code(self._session, self.agent)

    def stderr_tail(self) -> bytes:
        """Return the last bytes of the runner's own stderr."""
        return self._tail

    # ---- for the one that opens it

    def opened(self, sid: str, answer_sid: str) -> None:
        """The agent asks the model."""
        exchange = self._open[sid] = Exchange(self._session, self.agent, sid, answer_sid)
        self._exchanges.append(exchange)
        self._wake()

    def shut(self, sid: str) -> None:
        """The guest is done with a request."""
        exchange = self._open.get(sid)
        if exchange is not None:
            exchange.gone()

    def fail(self, error: Exception) -> None:
        """This host drives the agent no more."""
        if self.error is None:
            self.error = error
        for flow in self._flows or ():
            flow.fail(error)
        for exchange in self._open.values():
            exchange.gone(error)
        self._wake()

    def close(self) -> None:
        """Be done with all its streams. Who still waits gets AgentEndedError."""
        self.fail(self.error or AgentEndedError(f"agent {self.agent} was released"))
        for exchange in tuple(self._open.values()):
            self.close_exchange(exchange)
        if self._flows is not None:
            journal, stderr, source = self._flows
            self._session.close_inflow(journal)
            self._session.close_inflow(stderr)
            self._session.close_outflow(source)

    def _keep_tail(self, data: Data) -> None:
        self._tail = (self._tail + bytes(data))[-_STDERR_TAIL:]

    def _driving(self) -> tuple[Inflow, Inflow, Outflow]:
        self._check()
        if self._flows is None:
            raise AgentHostError(f"agent {self.agent} is not driven by this host")
        return self._flows

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _wake(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


async def _exit_code(session: Session, agent: str) -> int:
    code = await session.answer(session.begin("wait", {"agent": agent}, lasting=True))
    with reading("an exit code"):
        return int(code)


def agent_params(
    agent: str,
    argv: Sequence[str],
    tokens: TokenMaker,
    *,
    env: Mapping[str, str],
    model: bool,
    news: bool = False,
) -> dict[str, Any]:
    """Return the parameters of the call ``start`` for an agent; it then waits for a driver.

    With ``news`` the guest tells the program on its stdin of drivers that come and go: a runner knows these
    lines.
    """
    spec: dict[str, Any] = {"verifiers": {role: tokens.verifier(agent, role) for role in (DRIVER, OBSERVER)}}
    if model:
        # Random for each agent: what steals it from one cannot spend as another.
        spec["model_key"] = "sk-ant-agenthost-" + secrets.token_hex(24)
    if news:
        spec["news"] = True
    return {**start_params(agent, argv, cwd=None, env=env, user=None), "agent": spec}


@asynccontextmanager
async def drive_agent(
    session: Session, agent: str, tokens: TokenMaker, *, after: int | None = 0, lasting: bool = False
) -> AsyncGenerator[AgentChannel]:
    """Drive an agent; leaving the block kills its runner and all below it, started or not.

    Unless the channel is ``lasting``, or another driver has come.

    Args:
        session: The link.
        agent: Its name.
        tokens: Makes the driver's token.
        after: Offset in the journal to go on from; None is the oldest byte that is kept.
        lasting: The agent runs on when the block is left; the channel's attribute can change it.
    """
    channel = AgentChannel(session, agent, lasting=lasting)
    before = session.channels.get(agent)
    session.channels[agent] = channel
    if before is not None:
        before.fail(SupersededError(f"this process drives agent {agent} anew"))
        before.close()
    try:
        epoch, offset = await session.grant(agent, DRIVER, tokens.token(agent, DRIVER))
        channel.drive(epoch, offset, after=after)
        yield channel
    finally:
        superseded = channel.superseded  # then it is another's to end
        channel.close()
        if session.channels.get(agent) is channel:
            del session.channels[agent]
            session.link.drop(agent, DRIVER)
        if not superseded and not channel.lasting:
            # Only as the driver that this one is: it may have been superseded and not know it yet.
            release: dict[str, Any] = {"agent": agent, "keep": channel.remembered}
            if channel.epoch:
                release["epoch"] = channel.epoch
            try:
                told = await session.see_to("release", release, within=_KILLING)
                channel.released = told is not None
            except SupersededError as error:
                channel.error = error


class Observation:
    """What an observer reads: the journal, at its own pace."""

    def __init__(self, session: Session, agent: str, journal: Inflow) -> None:
        self._session = session
        self._agent = agent
        self._journal = journal

    async def receive(self) -> bytes:
        """Return the next bytes of the journal, ``b""`` when the runner has ended."""
        return await self._journal.receive()

    @property
    def received(self) -> int:
        """Offset in the journal behind what ``receive`` has returned."""
        return self._journal.consumed

    def ack(self, offset: int) -> None:
        """Nothing: only the driver's word counts."""

    async def wait(self) -> int:
        """Return the runner's exit code (128 + N for signal N)."""
        return await _exit_code(self._session, self._agent)

    def stderr_tail(self) -> bytes:
        """Return nothing: the runner's own stderr is the driver's."""
        return b""


@asynccontextmanager
async def observe_agent(
    session: Session, agent: str, tokens: TokenMaker, *, after: int | None = None
) -> AsyncGenerator[Observation]:
    """Read an agent's journal; an observer steers nothing and stalls nobody.

    Args:
        session: The link.
        agent: Its name.
        tokens: Makes the observer's token.
        after: Offset in the journal to begin at; None is the oldest byte that is kept.
    """
    await session.grant(agent, OBSERVER, tokens.token(agent, OBSERVER))
    journal = session.inflow(f"a/{agent}/out", offset=after)
    try:
        yield Observation(session, agent, journal)
    finally:
        journal.fail(AgentEndedError(f"agent {agent} is observed no more"))
        session.close_inflow(journal)
        session.link.drop(agent, OBSERVER)


@asynccontextmanager
async def open_channel(
    session: Session, params: dict[str, Any], tokens: TokenMaker
) -> AsyncGenerator[AgentChannel]:
    """Start an agent and drive it."""
    try:
        await session.call("start", params)
    except (OSError, ConfigError):
        raise  # it was not started, and another one of this name is none of ours
    except BaseException:
        # Cancelled, it may have been started all the same.
        await session.see_to("release", {"agent": params["id"]}, within=_KILLING)
        raise
    async with drive_agent(session, params["id"], tokens) as channel:
        yield channel

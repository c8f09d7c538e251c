"""A guest program without I/O: agents with journals and inputs, processes, model exchanges, calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from wire.simulation.content import GUEST_KEY, KEYS, content, token

from agenthost.wire import events
from agenthost.wire.frames import Data
from agenthost.wire.guest import GuestHub, GuestLink
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import DRIVER, OBSERVER, verifier


@dataclass
class Agent:
    """One simulated agent."""

    name: str
    journal: SendStream
    input: RecvStream
    lines: bytearray = field(default_factory=bytearray)
    unconsumed: int = 0
    input_ended: bool = False
    saved: int = 0  # up to here some driver has saved the journal: the next one begins there


@dataclass
class Process:
    """A simulated program that one link started."""

    key: str
    link_id: str
    size: int  # of its output
    out: SendStream
    stdin: RecvStream
    got: int = 0
    unconsumed: int = 0
    stdin_ended: bool = False
    stdin_refused: bool = False
    told_stopped: bool = False


@dataclass
class Exchange:
    """A request of an agent to the model, and the answer to it."""

    agent: str
    request: SendStream
    size: int
    answer: RecvStream
    got: int = 0


class GuestModel:
    """Everything that a guest does. It must never be told anything twice or out of order."""

    def __init__(
        self, boot_id: str, settings: WireSettings, agents: tuple[str, ...], random: Random, *, sealed: bool
    ) -> None:
        self.boot_id = boot_id
        self.settings = settings
        self.guest_key = GUEST_KEY if sealed else None
        self.hub = GuestHub(
            boot_id,
            verifier(token("", "control")),
            settings,
            guest_key=self.guest_key,
            private=random.choice(KEYS),
        )
        self.hub.look = self.look
        self.agents: dict[str, Agent] = {}
        self.processes: dict[str, Process] = {}
        self.exchanges: dict[str, Exchange] = {}  # by the answer's sid
        self.executed: Counter[str] = Counter()
        self.pending: list[tuple[GuestLink, int, str]] = []
        self._random = random
        self._next_exchange = 1
        for name in agents:
            verifiers = {role: verifier(token(name, role)) for role in (DRIVER, OBSERVER)}
            door = self.hub.add_agent(name, verifiers)
            journal = SendStream(f"a/{name}/out", bound=settings.journal_bound)
            self.hub.add_stream(journal, agent=name)
            self.agents[name] = Agent(name, journal, door.input)

    # ---- what it is told

    def look(self, link: GuestLink | None) -> None:
        """Take every event."""
        while self.hub.events:
            event = self.hub.events.popleft()
            if isinstance(event, events.DriverChanged):
                for exchange in list(self.exchanges.values()):
                    if exchange.agent == event.agent and exchange.got:
                        self.withdraw(exchange)
            elif isinstance(event, events.LinkForgotten):
                for process in list(self.processes.values()):
                    if process.link_id == event.link_id:
                        del self.processes[process.key]
                self.pending = [item for item in self.pending if item[0].link_id != event.link_id]
            else:
                raise AssertionError(event)
        while link is not None and link.events:
            self._happened(link, link.events.popleft())

    def _happened(self, link: GuestLink, event: events.Event) -> None:
        match event:
            case events.Called(call, method, params):
                self._called(link, call, method, params["key"], params)
            case events.Received(sid, data):
                self._received(sid, data)
            case events.Ended(sid):
                self._ended(sid)
            case events.Stopped(sid):
                process = self.processes[sid.split("/")[1]]
                assert process.out.sid == sid
                assert not process.told_stopped
                process.told_stopped = True
            case _:
                raise AssertionError(event)

    def _called(self, link: GuestLink, call: int, method: str, key: str, params: dict[str, object]) -> None:
        self.executed[key] += 1
        assert self.executed[key] == 1, f"call {key} was done twice"
        if method == "spawn":
            out = SendStream(f"p/{key}/out", bound=self.settings.output_bound)
            stdin = RecvStream(f"p/{key}/in", offset=0, window=self.settings.window)
            size = params["size"]
            assert isinstance(size, int)
            self.processes[key] = Process(key, link.link_id, size, out, stdin)
            self.hub.add_stream(out, link=link.link_id)
            link.expect(stdin)
        elif method == "release":
            process = self.processes.pop(str(params["of"]), None)
            if process is not None:
                process.out.stop()
                link.refuse(process.stdin.sid)
                self.hub.remove_stream(process.out.sid)
        self.pending.append((link, call, key))

    def _received(self, sid: str, data: Data) -> None:
        kind, name, *_ = sid.split("/")
        if kind == "p":
            process = self.processes[name]
            assert not process.stdin_ended
            assert data == content(sid, process.got, len(data))
            process.got += len(data)
            process.unconsumed += len(data)
        elif sid in self.exchanges:
            exchange = self.exchanges[sid]
            assert data == content(sid, exchange.got, len(data))
            exchange.got += len(data)
            self.hub.consumed(exchange.answer, len(data))
        else:
            agent = self.agents[name]
            assert sid == agent.input.sid, f"bytes of {sid}, which nobody expects"
            assert data[-1:] == b"\n", "a part of a line was handed out"
            agent.lines += data
            agent.unconsumed += len(data)

    def _ended(self, sid: str) -> None:
        kind, name, *_ = sid.split("/")
        if kind == "p":
            assert not self.processes[name].stdin_ended
            self.processes[name].stdin_ended = True
        elif sid in self.exchanges:
            exchange = self.exchanges[sid]
            assert exchange.got == answer_size(sid)
            self.withdraw(exchange)
        else:
            assert not self.agents[name].input_ended
            self.agents[name].input_ended = True

    # ---- what it does

    def print(self, stream: SendStream, size: int) -> None:
        """Write to a stream what there is room for, as a program is read while there is room."""
        if stream.room > 0 and not stream.ended:
            stream.write(content(stream.sid, stream.end_offset, min(size, stream.room)))

    def run_process(self, process: Process, size: int) -> None:
        """Let a program print some more; at the end of its output it ends."""
        self.print(process.out, min(size, process.size - process.out.end_offset))
        if process.out.end_offset == process.size or process.out.stopped:
            process.out.end()

    def consume(self, owner: Agent | Process, stream: RecvStream, count: int) -> None:
        """Be done with some of what came."""
        count = min(count, owner.unconsumed)
        if count:
            owner.unconsumed -= count
            self.hub.consumed(stream, count)

    def answer(self, index: int) -> None:
        """Answer one of the calls that wait."""
        link, call, key = self.pending.pop(index)
        link.answer(call, ok=True, value=f"did {key}")

    def ask(self, agent: str, size: int) -> None:
        """Begin an exchange with the model."""
        number, self._next_exchange = self._next_exchange, self._next_exchange + 1
        name = f"a/{agent}/m/{number}"
        # As a whole within its bound: another driver begins at its first byte.
        request = SendStream(f"{name}/q", bound=1000)
        answer = RecvStream(f"{name}/r", offset=0, window=self.settings.window)
        self.exchanges[answer.sid] = Exchange(agent, request, size, answer)
        self.hub.add_stream(request, agent=agent)
        self.hub.offer(agent, request.sid, {"answer": answer.sid}, answer)

    def go_on_asking(self, exchange: Exchange, size: int) -> None:
        """Write more of a request."""
        request = exchange.request
        self.print(request, min(size, exchange.size - request.end_offset))
        if request.end_offset == exchange.size:
            request.end()

    def withdraw(self, exchange: Exchange) -> None:
        """Be done with an exchange."""
        del self.exchanges[exchange.answer.sid]
        self.hub.withdraw(exchange.agent, exchange.request.sid, exchange.answer.sid)
        exchange.request.stop()

    def refuse_stdin(self, process: Process) -> None:
        """The program has closed its stdin."""
        if not process.stdin_refused and not process.stdin_ended:
            process.stdin_refused = True
            self.hub.links[process.link_id].refuse(process.stdin.sid)

    # ---- what must hold at any time

    def check(self, longest_line: int, longest_write: int) -> None:
        """Memory is bounded, and only what was acknowledged is let go."""
        for agent in self.agents.values():
            journal = agent.journal
            assert journal.spool.base <= journal.acked <= agent.saved
            assert journal.end_offset - journal.acked <= journal.bound + longest_write
            assert journal.end_offset - journal.spool.base <= 2 * (journal.bound + longest_write)
            assert agent.unconsumed <= self.settings.window + longest_line
        for process in self.processes.values():
            assert process.unconsumed <= self.settings.window
            assert process.out.end_offset - process.out.acked <= process.out.bound + longest_write


def answer_size(sid: str) -> int:
    """Return how long the model's answer on this stream is."""
    return content(sid, 7, 1)[0]

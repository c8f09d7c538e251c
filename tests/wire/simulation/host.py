"""A host program without I/O: it drives or observes agents, runs programs, calls and acknowledges."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from wire.simulation.content import KEYS, content, token
from wire.simulation.guest import answer_size

from agenthost.wire import events
from agenthost.wire.host import HostLink
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

if TYPE_CHECKING:
    from wire.simulation.guest import GuestModel
    from wire.simulation.world import SimCarrier


@dataclass
class Reader:
    """One subscription, and what its reader has taken."""

    stream: RecvStream
    position: int | None  # of the next byte; None until the first, when reading begins at the oldest
    unconsumed: int = 0
    ended: bool = False
    gone: bool = False


@dataclass
class Writer:
    """A stream to the guest, and what was written to it."""

    stream: SendStream
    told_stopped: bool = False
    lines: int = 0


@dataclass
class HostModel:
    """Everything that one host process does."""

    name: str
    settings: WireSettings
    random: Random
    guest: GuestModel
    drives: tuple[str, ...]
    observes: tuple[str, ...]
    control: bool
    boot_id: str | None = None
    carrier: SimCarrier | None = None
    foreign: bool = False  # another machine has answered
    readers: dict[str, Reader] = field(default_factory=dict[str, Reader])
    inputs: dict[str, Writer] = field(default_factory=dict[str, Writer])
    stdins: dict[str, Writer] = field(default_factory=dict[str, Writer])
    answers: dict[str, Writer] = field(default_factory=dict[str, Writer])
    calls: dict[int, str] = field(default_factory=dict[int, str])
    outcomes: dict[str, str] = field(default_factory=dict[str, str])
    open: dict[str, str] = field(default_factory=dict[str, str])  # requests and their answers
    waiting: dict[str, None] = field(default_factory=dict[str, None])  # those that are not read yet
    driving: dict[str, int] = field(default_factory=dict[str, int])  # agents and epochs
    superseded: set[str] = field(default_factory=set[str])
    stopped_readers: list[str] = field(default_factory=list[str])
    gaps: int = 0

    def __post_init__(self) -> None:
        self.slow = not self.drives and self.random.random() < 0.5
        self.link = HostLink(
            f"link of {self.name}",
            self.settings,
            guest_key=self.guest.guest_key,
            boot_id=self.boot_id,
            private=self.random.choice(KEYS),
        )
        if self.control:
            self.link.grant("", CONTROL, token("", CONTROL))
        for agent in self.drives:
            self.link.grant(agent, DRIVER, token(agent, DRIVER))
        for agent in self.observes:
            self.link.grant(agent, OBSERVER, token(agent, OBSERVER))

    @property
    def has_roles(self) -> bool:
        """False when there is nothing left to dial for."""
        return self.control or bool(self.observes) or bool(set(self.drives) - self.superseded)

    # ---- what it is told

    def look(self) -> None:
        """Take every event."""
        queue = self.link.events
        arrived: dict[str, int] = {}
        for event in queue:
            if isinstance(event, events.Received):
                arrived[event.sid] = arrived.get(event.sid, 0) + len(event.data)
        while queue:
            event = queue.popleft()
            if isinstance(event, events.Received):
                reader = self.readers.get(event.sid)
                if reader is None:
                    continue  # unsubscribed since, for an event before this one
                if reader.position is None:
                    assert reader.stream.offset is not None
                    reader.position = reader.stream.offset - arrived[event.sid]
                assert not reader.ended
                assert event.data == content(event.sid, reader.position, len(event.data))
                reader.position += len(event.data)
                reader.unconsumed += len(event.data)
                assert reader.unconsumed <= reader.stream.window
            else:
                self._happened(event)

    def _happened(self, event: events.Event) -> None:
        match event:
            case events.Hello(boot_id):
                self.foreign = self.link.boot_id not in (None, boot_id)
                if not self.foreign:
                    assert self.carrier is not None
                    self.guest = self.carrier.guest
            case events.Granted(agent, role, epoch, offset, ended):
                self._granted(agent, role, epoch, offset, ended=ended)
            case events.Refused(agent, role, reason):
                assert (role, reason) == (DRIVER, "superseded")
                assert agent not in self.superseded
                self.superseded.add(agent)
                self._stop_driving(agent)
            case events.Answered(call, ok, value):
                self._answered(call, ok, value)
            case events.Forgotten(calls):
                for call in calls:
                    key = self.calls.pop(call)
                    assert key not in self.outcomes
                    self.outcomes[key] = "forgotten"
            case events.Opened(sid, agent, meta):
                assert agent in self.driving
                assert sid not in self.open
                self.open[sid] = meta["answer"]
                self.waiting[sid] = None
                if self.random.random() < 0.5:
                    self.read_request(sid)
            case events.Shut(sid):
                answer = self.open.pop(sid)
                self.waiting.pop(sid, None)
                self._unsubscribe(sid)
                if self.answers.pop(answer, None) is not None:
                    self.link.drop_send_stream(answer)
            case events.Ended(sid):
                if sid in self.readers:
                    assert not self.readers[sid].ended
                    self.readers[sid].ended = True
                if sid in self.open:
                    self._answer_model(self.open[sid])
            case events.Gap(sid, wanted, oldest):
                self._gap(sid, wanted, oldest)
            case events.Missing(sid):
                if sid in self.readers:
                    self.readers[sid].gone = True
            case events.Stopped(sid):
                for writers in (self.inputs, self.stdins, self.answers):
                    for writer in writers.values():
                        if writer.stream.sid == sid:
                            assert writer.stream.stopped
                            writer.told_stopped = True
            case events.Ready():
                pass
            case _:
                raise AssertionError(event)

    def _granted(self, agent: str, role: str, epoch: int, offset: int, *, ended: bool) -> None:
        if role == CONTROL:
            return
        sid = f"a/{agent}/out"
        if role == OBSERVER:
            if sid not in self.readers:
                self._subscribe(sid, self.random.choice([None, 0]))
            return
        assert epoch > self.driving.get(agent, 0)
        self.driving[agent] = epoch
        if not ended:
            self.inputs[agent] = Writer(self.link.send_stream(f"a/{agent}/in", base=offset))
        if sid not in self.readers:
            self._subscribe(sid, self.guest.agents[agent].saved)

    def _stop_driving(self, agent: str) -> None:
        self.driving.pop(agent, None)
        for sid in [sid for sid in self.open if sid.startswith(f"a/{agent}/")]:
            self.answers.pop(self.open.pop(sid), None)
            self.waiting.pop(sid, None)
            self._unsubscribe(sid)
        if agent not in self.observes:
            self._unsubscribe(f"a/{agent}/out")

    def _answered(self, call: int, ok: bool, value: object) -> None:
        key = self.calls.pop(call)
        assert key not in self.outcomes
        if not ok:
            assert isinstance(value, dict)
            assert value["type"] == "AccessDenied"
            self.outcomes[key] = "denied"
            return
        assert value == f"did {key}"
        self.outcomes[key] = "done"
        if key.startswith("spawn") and key not in self.stdins:
            self._attach_process(key)

    def _answer_model(self, answer: str) -> None:
        writer = self.answers[answer] = Writer(self.link.send_stream(answer))
        writer.stream.write(content(answer, 0, answer_size(answer)))
        writer.stream.end()

    def _gap(self, sid: str, wanted: int, oldest: int) -> None:
        reader = self.readers.get(sid)
        if reader is None:
            return
        agent = sid.split("/")[1]
        journal = self.guest.agents[agent].journal
        assert wanted == reader.position
        assert wanted < oldest <= journal.acked, "what was not acknowledged has gone"
        self.gaps += 1
        self._subscribe(sid, self.random.choice([None, oldest]))

    # ---- what it does

    def _subscribe(self, sid: str, offset: int | None) -> None:
        window = self.random.randint(1, self.settings.window) if self.random.random() < 0.2 else None
        self.readers[sid] = Reader(self.link.subscribe(sid, offset=offset, window=window), offset)
        self._saved(sid, offset or 0)  # who begins there will not ask for what is below

    def _unsubscribe(self, sid: str) -> None:
        if self.readers.pop(sid, None) is not None:
            self.link.unsubscribe(sid)

    def _attach_process(self, key: str) -> None:
        self._subscribe(f"p/{key}/out", 0)
        self.stdins[key] = Writer(self.link.send_stream(f"p/{key}/in"))

    def call(self, key: str) -> None:
        """Call something that control may, or say that may not."""
        self.calls[self.link.call("do", {"key": key})] = key

    def signal(self, key: str, agent: str) -> None:
        """Call something that the agent's driver may."""
        self.calls[self.link.call("signal", {"key": key, "agent": agent})] = key

    def spawn(self, key: str, size: int, *, eager: bool) -> None:
        """Start a program; an eager host reads and writes its streams before it knows that it runs."""
        self.calls[self.link.call("spawn", {"key": key, "size": size})] = key
        if eager:
            self._attach_process(key)

    def release(self, key: str, process: str) -> None:
        """Be done with a program, whatever it still prints."""
        self.calls[self.link.call("release", {"key": key, "of": process})] = key

    def write_line(self, agent: str, size: int) -> None:
        """Send the agent a line that says who sent it and which of its lines it is."""
        writer = self.inputs[agent]
        if writer.stream.room > 0 and not writer.stream.ended and not writer.stream.stopped:
            head = f"{self.name}|{self.driving[agent]}|{writer.lines}|".encode()
            writer.lines += 1
            writer.stream.write(head + b"x" * size + b"\n")

    def feed_process(self, key: str, size: int, *, end: bool) -> None:
        """Send a program some stdin."""
        stream = self.stdins[key].stream
        if stream.room > 0 and not stream.ended:
            stream.write(content(stream.sid, stream.end_offset, min(size, stream.room)))
            if end:
                stream.end()

    def read_request(self, sid: str) -> None:
        """Read a request to the model from its beginning on."""
        del self.waiting[sid]
        self._subscribe(sid, 0)

    def stop_reading(self, sid: str) -> None:
        """Want no more of a program's output."""
        self.stopped_readers.append(sid)
        self._unsubscribe(sid)

    def change_mind(self, sid: str) -> None:
        """Stop reading, and read on at once from where it was."""
        position = self.readers[sid].position
        self._unsubscribe(sid)
        self._subscribe(sid, position)

    def drive(self, agent: str) -> None:
        """Ask for one more role. What was acknowledged as an observer counts from now on."""
        self.drives = (*self.drives, agent)
        reader = self.readers.get(f"a/{agent}/out")
        if reader is not None:
            self._saved(f"a/{agent}/out", reader.stream.acked)
        self.link.grant(agent, DRIVER, token(agent, DRIVER))

    def _saved(self, sid: str, offset: int) -> None:
        kind, name, *_ = sid.split("/")
        if kind == "a" and name in self.drives and sid.endswith("/out"):
            agent = self.guest.agents[name]
            agent.saved = max(agent.saved, offset)

    def drive_anew(self, agent: str) -> None:
        """Give a role back and take it again, as two objects of one program would."""
        self.link.drop(agent, DRIVER)
        self._stop_driving(agent)
        self.link.grant(agent, DRIVER, token(agent, DRIVER))

    def consume(self, sid: str, count: int, *, acknowledge: bool) -> None:
        """Take some of what came; with ``acknowledge`` say that it is saved."""
        reader = self.readers[sid]
        count = min(count, reader.unconsumed)
        reader.unconsumed -= count
        if count:
            self.link.consume(sid, count)
        if acknowledge and reader.position is not None:
            saved = reader.position - reader.unconsumed
            self._saved(sid, saved)
            self.link.acknowledge(sid, saved)

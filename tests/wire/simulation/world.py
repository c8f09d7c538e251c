"""One guest and some hosts, joined by carriers that split, delay, cut, lose and come in twice; and time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from wire.simulation.guest import GuestModel
from wire.simulation.host import HostModel

from agenthost.wire.frames import ProtocolError
from agenthost.wire.settings import WireSettings

AGENTS = ("a", "b")
_PIPE = 600  # bytes that a simulated carrier holds before its sender must wait
LONGEST_LINE = 260
LONGEST_WRITE = 200
_PATIENCE = 3000  # rounds in which everything must come to rest


class SimCarrier:
    """Bytes on their way in both directions, and what each end knows of it."""

    def __init__(self, host: HostModel, guest: GuestModel, *, binary: bool, now: float) -> None:
        self.host: HostModel | None = host  # None: that end has let go
        self.guest = guest
        self.state = guest.hub.open_carrier(now=now)
        self.guest_open = True
        self.up = bytearray()
        self.down = bytearray()
        self.dead = False  # cut: nothing moves any more, whoever knows it
        self.tampered = False  # something in between has changed what was on its way
        host.carrier = self
        host.link.attach(binary=binary, now=now)

    @property
    def over(self) -> bool:
        """True when both ends know that it has ended."""
        return self.host is None and not self.guest_open

    def cut(self) -> None:
        """Lose what is on its way. The ends notice later."""
        self.dead = True
        self.up.clear()
        self.down.clear()

    def host_leaves(self) -> None:
        """The host notices the cut, or gives this carrier up. What it has sent may still arrive."""
        if self.host is not None:
            assert self.host.carrier is self
            self.host.carrier = None
            self.host.link.detach()
            self.host = None
            self.down.clear()

    def guest_leaves(self) -> None:
        """The guest notices, or closes. What it has sent may still arrive."""
        if self.guest_open:
            self.guest_open = False
            self.state.lost()
            self.up.clear()


class World:
    """A whole simulation, driven by one source of randomness. Any exception is a bug of the wire."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.now = 1000.0
        text_payload = random.choice([3, 20, 60])
        initial = random.choice([8, 64, 150])
        self.settings = WireSettings(
            text_payload=text_payload,
            binary_payload=text_payload * random.choice([1, 3]),
            max_line=32 * 1024,
            seal_every=random.choice([1, 100, 1000]),
            initial_window=initial,
            window=initial * random.choice([1, 1, 2, 5]),
            journal_bound=random.choice([50, 300, 2000]),
            output_bound=random.choice([40, 300]),
        )
        # The ends may differ in how much they are willing to hold.
        self.host_settings = replace(self.settings, window=initial * random.choice([1, 3]), output_bound=1)
        self.sealed = random.random() < 0.7
        self.noticed = 0  # changes on the way that an end has noticed
        self.boots = 0
        self.hosts: list[HostModel] = []
        self.carriers: list[SimCarrier] = []
        self._names = 0
        self._boot()
        self.add_host(drives=AGENTS, control=True)
        if random.random() < 0.6:
            self.add_host(observes=(random.choice(AGENTS),))

    def _boot(self) -> None:
        self.boots += 1
        boot_id = f"boot {self.boots}"
        self.guest = GuestModel(boot_id, self.settings, AGENTS, self.random, sealed=self.sealed)

    def name(self, kind: str) -> str:
        """Return a name that nothing else has."""
        self._names += 1
        return f"{kind}{self._names}"

    def add_host(
        self, *, drives: tuple[str, ...] = (), observes: tuple[str, ...] = (), control: bool = False
    ) -> HostModel:
        """Start a host process."""
        boot_id = self.guest.boot_id if self.random.random() < 0.5 else None
        host = HostModel(
            self.name("host"),
            self.host_settings,
            self.random,
            self.guest,
            drives,
            observes,
            control,
            boot_id=boot_id,
        )
        self.hosts.append(host)
        return host

    # ---- carriers

    def dial(self, host: HostModel) -> None:
        """Give a host a carrier. It may come in while an older one still is there."""
        if host.carrier is None and not host.foreign and host.has_roles:
            binary = self.random.random() < 0.5
            self.carriers.append(SimCarrier(host, self.guest, binary=binary, now=self.now))

    def send_up(self, carrier: SimCarrier, budget: int) -> bool:
        """Move what a host has to say onto its carrier."""
        host = carrier.host
        if host is None or len(carrier.up) > _PIPE:
            return False
        assert host.link.has_output or not host.link.take(budget, self.now)
        data = host.link.take(budget, self.now)
        if carrier.guest.boot_id != host.guest.boot_id and host.link.boot_id == host.guest.boot_id:
            assert not data, "something was proved to another machine"
        if not carrier.dead and carrier.guest_open:
            carrier.up += data
        return bool(data)

    def send_down(self, carrier: SimCarrier, budget: int) -> bool:
        """Move what the guest has to say onto a carrier; close it when the guest wants that."""
        if not carrier.guest_open or len(carrier.down) > _PIPE:
            return False
        data = carrier.state.take(budget, self.now)
        if not carrier.dead and carrier.host is not None:
            carrier.down += data
        if not data and carrier.state.closing:
            carrier.guest_leaves()
            return True
        return bool(data)

    def deliver_up(self, carrier: SimCarrier, size: int) -> bool:
        """Let bytes arrive at the guest."""
        if not carrier.guest_open or carrier.dead:
            return False
        if not carrier.up:
            if carrier.host is None:
                carrier.guest_leaves()
                return True
            return False
        data = bytes(carrier.up[:size])
        del carrier.up[:size]
        try:
            carrier.state.receive(data, self.now)
        except ProtocolError:
            assert carrier.tampered
            self.noticed += 1
            carrier.guest_leaves()
        return True

    def deliver_down(self, carrier: SimCarrier, size: int) -> bool:
        """Let bytes arrive at the host."""
        host = carrier.host
        if host is None or carrier.dead:
            return False
        if not carrier.down:
            if not carrier.guest_open:
                carrier.host_leaves()
                return True
            return False
        data = bytes(carrier.down[:size])
        del carrier.down[:size]
        try:
            host.link.receive(data, self.now)
        except ProtocolError:
            assert carrier.tampered
            self.noticed += 1
            host.look()
            carrier.host_leaves()
            return True
        host.look()
        if host.foreign:
            carrier.host_leaves()
        return True

    def tamper(self, carrier: SimCarrier) -> None:
        """Change, repeat, leave out or swap some bytes that are on their way over a sealed carrier."""
        host = carrier.host
        if not self.sealed or carrier.dead or host is None or not host.link.flowing:
            return
        way = self.random.choice([carrier.up, carrier.down])
        if len(way) < 2:
            return
        start = self.random.randrange(len(way) - 1)
        end = self.random.randint(start + 1, min(len(way), start + 200))
        if self.random.random() < 0.5:  # whole lines
            start, end = way.rfind(b"\n", 0, start) + 1, way.find(b"\n", end) + 1 or len(way)
        piece = bytes(way[start:end])
        kind = self.random.choice(["digits", "change", "repeat", "leave out", "swap"])
        if kind == "digits":
            way[start:end] = piece.translate(bytes.maketrans(b"0123456789", b"1234567890"))
        elif kind == "change":
            way[start] ^= self.random.randint(1, 255)
        elif kind == "repeat":
            way[end:end] = piece
        elif kind == "leave out":
            del way[start:end]
        else:
            way[start:end] = piece[::-1]
        carrier.tampered = True

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everyone look at the clock."""
        self.now += seconds
        for carrier in self.carriers:
            if carrier.host is not None and not carrier.host.link.tick(self.now):
                carrier.host_leaves()
            if carrier.guest_open:
                carrier.state.tick(self.now)
        self.guest.hub.tick(self.now)
        self.guest.look(None)
        self.carriers = [carrier for carrier in self.carriers if not carrier.over]

    def kill_host(self, host: HostModel) -> None:
        """End a host process. What it has sent may still arrive."""
        if host.carrier is not None:
            host.carrier.host_leaves()
        self.hosts.remove(host)

    def restart_guest(self) -> None:
        """End the guest and start another one on the same machine."""
        for carrier in self.carriers:
            carrier.guest_leaves()
            if self.random.random() < 0.5:
                carrier.cut()
        self._boot()
        self.add_host(drives=AGENTS, control=True)

    # ---- at rest

    def settle(self) -> None:
        """Let everything run until it is at rest, with carriers that stay up.

        Raises:
            AssertionError: It never comes to rest.
        """
        for _ in range(6):
            for carrier in self.carriers:
                if carrier.dead or carrier.tampered:  # half of a frame may be missing for ever
                    carrier.host_leaves()
                    carrier.guest_leaves()
            for _ in range(_PATIENCE):
                if not self._round():
                    break
            else:
                raise AssertionError("it never comes to rest")
            self.pass_time(5.0)

    def _round(self) -> bool:
        moved = False
        for host in self.hosts:
            if host.carrier is None and not host.foreign and host.has_roles:
                self.dial(host)
                moved = True
        for carrier in list(self.carriers):
            for action in (self.send_up, self.deliver_up, self.send_down, self.deliver_down):
                moved |= action(carrier, 100_000)
        for host in self.hosts:
            for sid in list(host.waiting):
                moved = True
                host.read_request(sid)
            host.look()
            for sid, reader in list(host.readers.items()):
                moved |= reader.unconsumed > 0
                host.consume(sid, reader.unconsumed, acknowledge=True)
        guest = self.guest
        for agent in guest.agents.values():
            guest.consume(agent, agent.input, agent.unconsumed)
        for process in guest.processes.values():
            guest.consume(process, process.stdin, process.unconsumed)
            guest.run_process(process, 10_000)
        for exchange in guest.exchanges.values():
            guest.go_on_asking(exchange, 10_000)
        while guest.pending:
            moved = True
            guest.answer(0)
        return moved

    def check(self) -> None:
        """Look at what must hold at any time."""
        self.guest.check(LONGEST_LINE, LONGEST_WRITE)

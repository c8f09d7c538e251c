"""What may happen next in a simulation."""

from __future__ import annotations

from collections.abc import Callable

from wire.simulation.host import HostModel
from wire.simulation.world import AGENTS, LONGEST_LINE, LONGEST_WRITE, SimCarrier, World


class Schedule:
    """What happens to a world. Each schedule has its own taste: some never cut, some do little else."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._weights: list[float] = [
            weight * (world.random.choice([0, 0.3, 1, 1, 4]) if action not in _NEEDED else 1)
            for action, weight in _WEIGHTED
        ]

    def step(self) -> None:
        """Let one thing happen."""
        (action,) = self._world.random.choices(_ACTIONS, self._weights)
        action(self._world)


def _pick_carrier(world: World) -> SimCarrier | None:
    return world.random.choice(world.carriers) if world.carriers else None


def _pick_host(world: World) -> HostModel:
    return world.random.choice(world.hosts)


def _size(world: World) -> int:
    return world.random.choice([1, 7, 40, 200, 5000])


def _move(world: World) -> None:
    carrier = _pick_carrier(world)
    if carrier is not None:
        world.random.choice([world.send_up, world.send_down])(carrier, _size(world))
        world.random.choice([world.deliver_up, world.deliver_down])(carrier, _size(world))


def _flow(world: World) -> None:
    carrier = _pick_carrier(world)
    if carrier is not None:
        for _ in range(world.random.randint(1, 4)):
            world.send_up(carrier, 5000)
            world.deliver_up(carrier, _size(world))
            world.send_down(carrier, 5000)
            world.deliver_down(carrier, _size(world))


def _dial(world: World) -> None:
    world.dial(_pick_host(world))


def _cut(world: World) -> None:
    carrier = _pick_carrier(world)
    if carrier is not None:
        carrier.cut()
        if world.random.random() < 0.7:
            carrier.host_leaves()
        if world.random.random() < 0.5:
            carrier.guest_leaves()


def _tamper(world: World) -> None:
    carrier = _pick_carrier(world)
    if carrier is not None:
        world.tamper(carrier)


def _redial(world: World) -> None:
    host = _pick_host(world)
    if host.carrier is not None:
        host.carrier.host_leaves()  # the guest does not know: the old carrier may still bring bytes
    world.dial(host)


def _time(world: World) -> None:
    world.pass_time(world.random.choice([0.1, 1.0, 6.0, 16.0, 24.0]))


def _long_time(world: World) -> None:
    if world.random.random() < 0.5:
        for carrier in world.carriers:
            carrier.cut()
            carrier.guest_leaves()
    world.pass_time(world.random.choice([100.0, 601.0]))


def _host_acts(world: World) -> None:
    random, host = world.random, _pick_host(world)
    for agent in host.inputs:
        if agent in host.driving and random.random() < 0.5:
            host.write_line(agent, random.choice([0, 5, 30, LONGEST_LINE - 40]))
    for key in host.stdins:
        if random.random() < 0.4:
            host.feed_process(key, random.randint(1, LONGEST_WRITE), end=random.random() < 0.2)
    roll = random.random()
    if roll < 0.25:
        host.call(world.name("call"))
    elif roll < 0.4:
        agent = random.choice(AGENTS)
        host.signal(world.name("signal"), agent)
    elif roll < 0.6 and host.control:
        host.spawn(world.name("spawn"), random.randint(0, 700), eager=random.random() < 0.5)
    elif roll < 0.66:
        owned = [sid for sid in host.readers if sid.startswith("p/")]
        if owned:
            host.stop_reading(random.choice(owned))
    elif roll < 0.72:
        shared = [
            sid for sid, r in host.readers.items() if sid.endswith("out") and sid[0] == "a" and not r.gone
        ]
        if shared:
            host.change_mind(random.choice(shared))
    elif roll < 0.77 and host.driving:
        host.drive_anew(random.choice(list(host.driving)))
    elif roll < 0.79 and host.stdins:
        host.release(world.name("release"), random.choice(list(host.stdins)))
    elif roll < 0.82 and host.calls:
        call = random.choice(list(host.calls))
        host.link.abandon(call)
        del host.calls[call]


def _host_reads(world: World) -> None:
    random, host = world.random, _pick_host(world)
    if host.waiting and random.random() < 0.5:
        host.read_request(random.choice(list(host.waiting)))
        host.look()
    for sid, reader in list(host.readers.items()):
        if reader.unconsumed and random.random() < (0.01 if host.slow else 0.7):
            host.consume(sid, random.choice([1, 10, 10000]), acknowledge=random.random() < 0.7)


def _guest_acts(world: World) -> None:
    random, guest = world.random, world.guest
    for agent in guest.agents.values():
        if random.random() < 0.7:
            guest.print(agent.journal, random.randint(1, LONGEST_WRITE))
        if random.random() < 0.5:
            guest.consume(agent, agent.input, random.choice([1, 20, 10000]))
    for process in guest.processes.values():
        if random.random() < 0.6:
            guest.run_process(process, random.randint(1, LONGEST_WRITE))
        if random.random() < 0.5:
            guest.consume(process, process.stdin, random.choice([1, 20, 10000]))
    for exchange in guest.exchanges.values():
        guest.go_on_asking(exchange, random.randint(1, LONGEST_WRITE))
    while guest.pending and random.random() < 0.7:
        guest.answer(random.randrange(len(guest.pending)))


def _guest_begins(world: World) -> None:
    random, guest = world.random, world.guest
    roll = random.random()
    if roll < 0.6:
        guest.ask(random.choice(AGENTS), random.randint(1, 200))
    elif roll < 0.75 and guest.exchanges:
        guest.withdraw(random.choice(list(guest.exchanges.values())))
    elif roll < 0.95 and guest.processes:
        guest.refuse_stdin(random.choice(list(guest.processes.values())))
    elif random.random() < 0.3:
        guest.agents[random.choice(AGENTS)].journal.end()


def _hosts_change(world: World) -> None:
    random = world.random
    roll = random.random()
    if roll < 0.3 and len(world.hosts) < 4:
        world.add_host(drives=(random.choice(AGENTS),), observes=random.choice([(), AGENTS]))
    elif roll < 0.5 and len(world.hosts) < 4:
        world.add_host(observes=random.choice([("a",), AGENTS]))
    elif roll < 0.75:
        host = _pick_host(world)
        agent = random.choice(AGENTS)
        if agent not in host.drives:
            host.drive(agent)
    elif roll < 0.95:
        world.kill_host(_pick_host(world))
        world.add_host(drives=random.choice([("a",), AGENTS]), control=True)
    elif world.boots == 1:
        world.restart_guest()


_WEIGHTED: tuple[tuple[Callable[[World], None], int], ...] = (
    (_move, 40),
    (_flow, 40),
    (_host_acts, 10),
    (_host_reads, 10),
    (_guest_acts, 12),
    (_guest_begins, 3),
    (_dial, 6),
    (_cut, 3),
    (_redial, 2),
    (_tamper, 6),
    (_time, 4),
    (_long_time, 1),
    (_hosts_change, 2),
)
_ACTIONS = [action for action, _ in _WEIGHTED]
_NEEDED = (_move, _flow, _dial)

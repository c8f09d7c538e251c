"""Any interleaving: what is delivered equals what was sent, once, in order; and it all is delivered."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from wire.simulation.actions import Schedule
from wire.simulation.host import HostModel
from wire.simulation.world import World


@settings(settings.get_profile("wire-schedules"))
@given(seed=st.integers(0, 2**63), steps=st.integers(1, 800))
def test_what_is_delivered_equals_what_was_sent_whatever_happens_on_the_way(seed: int, steps: int) -> None:
    world = World(seed)
    schedule = Schedule(world)
    for _ in range(steps):
        schedule.step()
        world.check()
    world.settle()
    world.check()
    _all_was_delivered(world)


def _all_was_delivered(world: World) -> None:
    guest = world.guest
    lines = {agent.name: _lines_by_driver(bytes(agent.lines)) for agent in guest.agents.values()}
    for host in world.hosts:
        if host.foreign:
            assert world.boots > 1
            assert not host.link.flowing
        if host.foreign or not host.has_roles:
            continue
        assert host.link.flowing
        assert not host.calls, "a call was never answered"
        for sid, reader in host.readers.items():
            _reader_has_all(world, host, sid)
            assert not reader.unconsumed
        for agent in host.driving:
            door = guest.hub.doors[agent]
            assert door.driver == host.link.link_id
            assert door.epoch == host.driving[agent]
            assert not [x for x in guest.exchanges.values() if x.agent == agent], "an answer never came"
            if agent in host.inputs:
                assert not host.inputs[agent].told_stopped
                assert lines[agent][host.name, host.driving[agent]] == host.inputs[agent].lines
        for key, writer in host.stdins.items():
            process = guest.processes.get(key)
            if process is None or process.stdin_refused:
                assert writer.told_stopped or (writer.stream.acked == writer.stream.end_offset)
            else:
                assert process.got == writer.stream.end_offset
                assert process.stdin_ended == writer.stream.ended
        for sid in host.stopped_readers:
            process = guest.processes.get(sid.split("/")[1])
            assert process is None or process.out.stopped or process.out.end_offset == process.size
        for key, outcome in host.outcomes.items():
            assert outcome == "forgotten" or guest.executed[key] == (outcome == "done")


def _reader_has_all(world: World, host: HostModel, sid: str) -> None:
    kind, name, *_ = sid.split("/")
    reader = host.readers[sid]
    if kind == "p":
        process = world.guest.processes.get(name)
        if process is None or host.outcomes.get(name) == "forgotten":
            return
        stream = process.out
    else:
        stream = world.guest.agents[name].journal if sid.endswith("/out") else None
        if stream is None or name in host.superseded:
            return
    assert not reader.gone
    assert (reader.position or 0) == stream.end_offset or (reader.position is None and stream.end_offset == 0)
    assert reader.ended == stream.ended


def _lines_by_driver(received: bytes) -> Counter[tuple[str, int]]:
    """Count the lines of each driver: whole, one after the other, and in the order of epochs."""
    counts: Counter[tuple[str, int]] = Counter()
    last = 0
    for line in received.decode().splitlines():
        host, epoch, number, filler = line.split("|")
        assert not filler.strip("x")
        assert int(epoch) >= last
        last = int(epoch)
        assert int(number) == counts[host, last]
        counts[host, last] += 1
    return counts

"""The carrier over HTTP, through edges that buffer, cut, refuse, double and lose."""

from __future__ import annotations

import hashlib

import anyio
import pytest
from http_carrier.conftest import Behind
from support.deep_runs import chosen_seeds

from agenthost.link.client import GuestSandbox
from agenthost.testing.edge import EdgeFault, EdgeKind, EdgeRules, seeded_faults

SECONDS = 60.0  # until a test is taken to hang
SIZE = 600_000  # bytes both ways: some batches up, some answers down

RULES = {
    "an open way": EdgeRules(),
    "answers held back until they are complete": EdgeRules(complete=True),
    "answers collected": EdgeRules(collect=4096),
    "answers cut after a while": EdgeRules(longest=0.1),
    "idle answers cut": EdgeRules(idle=0.05),
    "large bodies refused": EdgeRules(body_limit=20_000),
    "bodies sent on in chunks": EdgeRules(recoded=True),
}


async def _echo(sandbox: GuestSandbox, seed: int, *, size: int = SIZE) -> None:
    """Send bytes through a program and check that they come back, and that it has run once."""
    data = hashlib.shake_256(bytes([seed])).digest(size)
    got = bytearray()
    async with sandbox.spawn(["sh", "-c", "echo >> ran; cat"]) as process, anyio.create_task_group() as tasks:

        async def feed() -> None:
            for start in range(0, len(data), 50_000):
                await process.send_stdin(data[start : start + 50_000])
            await process.close_stdin()

        tasks.start_soon(feed)
        while piece := await process.receive_stdout():
            got += piece
        assert await process.wait() == 0
    assert got == data
    assert (await sandbox.exec(["sh", "-c", "cat ran; rm ran"])).stdout == b"\n"


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
async def test_bytes_pass_both_ways_through(behind: Behind, rules: EdgeRules) -> None:
    with anyio.fail_after(SECONDS):
        async with behind(rules) as (_, _, sandbox):
            await _echo(sandbox, 1)


@pytest.mark.parametrize("kind", ["drop", "lose", "double", "refuse", "cut"])
async def test_the_link_goes_on_after_requests_with_the_fault(behind: Behind, kind: EdgeKind) -> None:
    """Two requests of each direction are struck, with good ones between."""
    fault = EdgeFault(kind, after=1000)
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules()) as (edge, _, sandbox):
            edge.plan(fault, None, fault, None, None, fault, fault)
            await _echo(sandbox, 2)
            assert len(edge.struck) == 4


@pytest.mark.parametrize("kind", ["drop", "lose", "double", "refuse"])
async def test_a_batch_whose_answer_is_missing_is_sent_again_on_the_same_carrier(
    behind: Behind, kind: EdgeKind
) -> None:
    fault = EdgeFault(kind, method="POST")
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules()) as (edge, provider, sandbox):
            edge.plan(fault, fault, None, fault)
            await _echo(sandbox, 3)
            assert len(edge.struck) == 3
            assert provider.asked == 1


async def test_a_poll_whose_answer_is_cut_is_repeated_on_the_same_carrier(behind: Behind) -> None:
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules(complete=True)) as (edge, provider, sandbox):
            for kind in ("lose", "drop", "cut"):
                edge.plan(EdgeFault(kind, method="GET"))
                await _echo(sandbox, 4)
            assert len(edge.struck) == 3
            assert provider.asked == 1


async def test_faults_of_many_kinds_lose_nothing_and_repeat_nothing(
    behind: Behind, request: pytest.FixtureRequest, anyio_backend: str
) -> None:
    for seed in chosen_seeds(request.config, anyio_backend, normal=2, full=10):
        rules = list(RULES.values())[seed % len(RULES)]
        try:
            with anyio.fail_after(SECONDS):
                async with behind(rules) as (edge, _, sandbox):
                    edge.plan(*seeded_faults(seed))
                    await _echo(sandbox, seed % 256)
        except Exception as error:
            raise AssertionError(f"the schedule of seed {seed} failed: {error!r}") from error

"""E2B's control plane in the emulator: limits, filters and states, asked by the vendor's own client."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Any

import anyio
import e2b as vendor
import httpx
import pytest

from agenthost.testing.emulators.e2b import Emulator, emulator

LIMIT = 60
CREATE = "POST /v2/sandboxes"


@pytest.fixture
async def sandbox(e2b: Emulator) -> AsyncIterator[vendor.AsyncSandbox]:
    made = await vendor.AsyncSandbox.create(timeout=600, **e2b.options)
    try:
        yield made
    finally:
        await made.kill()


async def listed(e2b: Emulator, **query: Any) -> list[str]:
    found = vendor.AsyncSandbox.list(query=vendor.SandboxQuery(**query), **e2b.options)
    return [one.sandbox_id for one in await found.next_items()]


async def test_a_list_is_filtered_by_template_and_by_start(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    assert await listed(e2b, template="base") == [sandbox.sandbox_id]
    assert await listed(e2b, template="another") == []
    assert await listed(e2b, started_after=now - hour) == [sandbox.sandbox_id]
    assert await listed(e2b, started_after=now + hour) == []


async def test_a_filter_that_is_not_known_is_refused_and_not_left_out(e2b: Emulator) -> None:
    async with httpx.AsyncClient(base_url=e2b.options["api_url"], trust_env=False) as client:
        headers = {"x-api-key": e2b.options["api_key"]}
        answer = await client.get("/v2/sandboxes?colour=red", headers=headers)
    assert (answer.status_code, "colour" in answer.text) == (501, True)


async def test_a_pause_without_memory_leaves_no_program(sandbox: vendor.AsyncSandbox) -> None:
    handle = await sandbox.commands.run("exec sleep 600", background=True, timeout=0)
    await sandbox.pause(mode="filesystem")
    await sandbox.connect(timeout=60)
    with anyio.fail_after(LIMIT), pytest.raises(vendor.CommandExitException):
        await sandbox.commands.run(f"kill -0 {handle.pid}")


async def test_a_life_of_no_seconds_is_refused(e2b: Emulator) -> None:
    with pytest.raises(vendor.SandboxException, match=r"^400: "):
        await vendor.AsyncSandbox.create(timeout=0, **e2b.options)


async def test_a_tag_that_a_template_does_not_have_is_not_found(e2b: Emulator) -> None:
    with pytest.raises(vendor.SandboxException, match="404"):
        await vendor.AsyncSandbox.create("base:no-such-tag", **e2b.options)


async def test_names_of_hosts_cannot_be_denied(e2b: Emulator) -> None:
    with pytest.raises(vendor.SandboxException, match=r"400.*invalid denied CIDR example\.org"):
        await vendor.AsyncSandbox.create(network={"deny_out": ["example.org"]}, **e2b.options)


def rules(hosts: list[str], headers: dict[str, str] | None = None) -> Any:
    return {"rules": {host: [{"transform": {"headers": headers or {"x-a": "b"}}}] for host in hosts}}


@pytest.mark.parametrize(
    "network",
    [
        rules([f"h{number}.example.org" for number in range(11)]),
        rules(["*.example.org"]),
        rules(["192.0.2.1"]),
        rules([".".join(["a" * 42] * 3) + ".org"]),
        rules(["example.org"], {f"x-{number}": "v" for number in range(21)}),
        rules(["example.org"], {"x" * 65: "v"}),
        rules(["example.org"], {"x y": "v"}),
        rules(["example.org"], {"x-a": "v" * 2049}),
        rules(["example.org"], {"x-a": "v\r\nx-b: w"}),
    ],
    ids=["hosts", "wildcard", "address", "long", "headers", "name", "signs", "value", "lines"],
)
async def test_headers_beyond_what_e2b_adds_are_refused(e2b: Emulator, network: Any) -> None:
    with pytest.raises(vendor.SandboxException, match=r"^400: "):
        await vendor.AsyncSandbox.create(network=network, **e2b.options)
    assert e2b.boxes.all == {}


async def test_as_many_headers_as_e2b_adds_are_taken(e2b: Emulator) -> None:
    hosts = [f"h{number}.example.org" for number in range(9)] + [".".join(["a" * 41] * 3) + ".a"]
    sandbox = await vendor.AsyncSandbox.create(timeout=60, network=rules(hosts), **e2b.options)
    assert await sandbox.kill()


async def test_an_account_without_the_feature_has_no_headers_added() -> None:
    async with emulator(header_rules=False) as small:
        with pytest.raises(vendor.SandboxException, match=r"400: .*not available for your team"):
            await vendor.AsyncSandbox.create(network=rules(["example.org"]), **small.options)


async def test_more_sandboxes_than_the_account_may_run_are_refused_until_one_ends_or_pauses() -> None:
    async with emulator(most_running=1) as small:
        first = await vendor.AsyncSandbox.create(timeout=60, **small.options)
        with pytest.raises(vendor.RateLimitException, match="maximum number of concurrent"):
            await vendor.AsyncSandbox.create(timeout=60, retries=0, **small.options)
        await first.pause()
        second = await vendor.AsyncSandbox.create(timeout=60, **small.options)
        with pytest.raises(vendor.RateLimitException, match="maximum number of concurrent"):
            await first.connect(timeout=60, retries=0)
        await second.kill()
        await first.connect(timeout=60)


async def test_a_sandbox_that_is_being_kept_is_in_no_list_and_its_end_cannot_be_moved(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    made: list[str] = []
    stands = 0
    box = e2b.box(sandbox.sandbox_id)
    await sandbox.commands.run("(while echo x >> beats; do sleep 0.02; done) > /dev/null 2>&1 &")

    async def beats() -> int:
        return len(await box.machine.sandbox.read_file("/home/user/beats"))

    async def keep() -> None:
        made.append((await sandbox.create_snapshot(mode="filesystem")).snapshot_id)

    with anyio.fail_after(LIMIT):
        async with (
            e2b.faults.hold(f"snapshotting {sandbox.sandbox_id}") as held,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(keep)
            await held.struck.wait()
            stands = await beats()
            for _ in range(50):  # far longer than it takes to beat
                assert await beats() == stands
            assert await listed(e2b) == []
            with pytest.raises(vendor.SandboxException) as caught:
                await sandbox.set_timeout(900)
            assert caught.value.status_code == 409
            assert (await sandbox.get_info()).state.value == "running"
            held.release()
        assert await listed(e2b) == [sandbox.sandbox_id]
        await sandbox.set_timeout(900)
        while await beats() == stands:  # noqa: ASYNC110 - a file tells only who reads it
            await anyio.sleep(0.02)
        assert (await sandbox.commands.run("echo on")).stdout == "on\n"
    assert await vendor.AsyncSandbox.delete_snapshot(made[0], **e2b.options)


async def test_a_sandbox_ends_or_pauses_when_the_emulators_clock_says_so() -> None:
    async with emulator() as running:
        ends = await vendor.AsyncSandbox.create(timeout=3000, **running.options)
        lifecycle: vendor.SandboxLifecycle = {"on_timeout": "pause"}
        pauses = await vendor.AsyncSandbox.create(timeout=3000, lifecycle=lifecycle, **running.options)
        running.clock.advance(3001)
        with anyio.fail_after(LIMIT):
            await running.ended(ends.sandbox_id)
            while (await pauses.get_info()).state.value != "paused":  # noqa: ASYNC110 - it tells only who asks
                await anyio.sleep(0.01)


async def test_a_key_that_was_revoked_is_refused(e2b: Emulator) -> None:
    e2b.faults.revoked = True
    with pytest.raises(vendor.AuthenticationException):
        await listed(e2b)
    e2b.faults.clear()
    assert await listed(e2b) == []


async def test_a_list_that_lags_does_not_have_a_new_sandbox_yet() -> None:
    async with emulator(list_lag=30) as slow:
        sandbox = await vendor.AsyncSandbox.create(timeout=600, **slow.options)
        assert await listed(slow) == []
        assert (await sandbox.get_info()).state.value == "running"
        slow.clock.advance(30)
        assert await listed(slow) == [sandbox.sandbox_id]


async def test_faults_of_any_wire_have_their_meaning_at_e2b(e2b: Emulator) -> None:
    e2b.faults.refuse("GET /v2/sandboxes", "RESOURCE_EXHAUSTED", times=2).headers = {"should-retry": "false"}
    for _ in range(2):
        with pytest.raises(vendor.RateLimitException):
            await listed(e2b)
    assert await listed(e2b) == []

"""One thing is made at a vendor once, whatever becomes of the answer, and nothing is left when that fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agenthost.adapter.make_once import make_once
from agenthost.errors import NameTakenError, ProviderError

LIMIT = 30  # seconds for what has to happen; nothing waits that long
SHORT = 0.05
Step = Callable[[], Awaitable[object]]


class Vendor:
    """A vendor whose calls do what a test says, one step after the other.

    Attributes:
        calls: What was called, in order.
    """

    def __init__(self, *, create: Step, find: Sequence[object] = (), end: Step | None = None) -> None:
        self.calls: list[str] = []
        self._create = create
        self._find = list(find)
        self._end = end

    async def create(self) -> str:
        self.calls.append("create")
        return str(await self._create())

    async def find(self) -> str | None:
        self.calls.append("find")
        await anyio.lowlevel.checkpoint()
        found = self._find.pop(0) if self._find else None
        if isinstance(found, Exception):
            raise found
        return None if found is None else str(found)

    async def end(self, thing: str) -> None:
        self.calls.append(f"end {thing}")
        if self._end is not None:
            await self._end()

    async def finish(self, thing: str) -> None:
        self.calls.append(f"finish {thing}")
        await anyio.lowlevel.checkpoint()

    async def make(self, **options: Any) -> str:
        """Make the thing."""
        given: dict[str, Any] = {"looks": (0.0, 0.0, 0.0), "finish": self.finish, **options}
        with anyio.fail_after(LIMIT):
            return await make_once("the thing", create=self.create, find=self.find, end=self.end, **given)


def answers(thing: str) -> Step:
    async def step() -> str:
        await anyio.lowlevel.checkpoint()
        return thing

    return step


def fails(error: Exception) -> Step:
    async def step() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return step


def lost() -> ProviderError:
    return ProviderError("the answer was lost", outcome="unknown")


async def test_what_was_made_is_completed_and_neither_looked_for_nor_ended() -> None:
    vendor = Vendor(create=answers("x"))
    assert await vendor.make() == "x"
    assert vendor.calls == ["create", "finish x"]


async def test_a_lost_answer_is_looked_for_until_the_thing_is_there() -> None:
    vendor = Vendor(create=fails(lost()), find=[None, None, "x"])
    assert await vendor.make() == "x"
    assert vendor.calls == ["create", "find", "find", "find", "finish x"]


async def test_a_look_that_fails_is_taken_again() -> None:
    vendor = Vendor(create=fails(lost()), find=[ProviderError("starting anew"), "x"])
    assert await vendor.make() == "x"
    assert vendor.calls == ["create", "find", "find", "finish x"]


async def test_what_is_found_nowhere_is_an_error_and_not_made_again() -> None:
    vendor = Vendor(create=fails(lost()))
    with pytest.raises(ProviderError, match="the answer was lost"):
        await vendor.make()
    assert vendor.calls.count("create") == 1
    assert not any(call.startswith("end") for call in vendor.calls)


async def test_what_appears_after_the_error_is_ended() -> None:
    vendor = Vendor(create=fails(lost()), find=[None, None, None, "x"])
    with pytest.raises(ProviderError, match="the answer was lost"):
        await vendor.make()
    assert vendor.calls[-1] == "end x"


async def test_where_no_look_succeeds_the_error_is_that_of_the_making_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "agenthost.adapter")
    away = ProviderError("the vendor is away")
    vendor = Vendor(create=fails(lost()), find=[away] * 6)
    with pytest.raises(ProviderError, match="the answer was lost") as caught:
        await vendor.make()
    assert caught.value.__cause__ is away
    assert "the thing may be left until its lifetime is over: the vendor is away" in caplog.text


async def test_a_refusal_is_raised_and_nothing_is_looked_for() -> None:
    vendor = Vendor(create=fails(ProviderError("no")), find=["x"])
    with pytest.raises(ProviderError, match="no"):
        await vendor.make()
    assert vendor.calls == ["create"]


async def test_a_name_that_is_taken_by_this_very_request_is_the_things_own() -> None:
    vendor = Vendor(create=fails(NameTakenError("taken")), find=["x"])
    assert await vendor.make() == "x"


async def test_a_name_that_is_anothers_is_looked_for_once_and_nothing_is_ended() -> None:
    vendor = Vendor(create=fails(NameTakenError("taken")))
    with pytest.raises(NameTakenError):
        await vendor.make()
    assert vendor.calls == ["create", "find"]


async def test_what_cannot_be_completed_is_ended() -> None:
    vendor = Vendor(create=answers("x"))

    async def finish(_thing: str) -> None:
        await anyio.lowlevel.checkpoint()
        raise ProviderError("no lease")

    with pytest.raises(ProviderError, match="no lease"):
        await vendor.make(finish=finish)
    assert vendor.calls == ["create", "end x"]


async def test_what_takes_too_long_is_looked_for_and_ended() -> None:
    vendor = Vendor(create=anyio.sleep_forever, find=["x"])
    with pytest.raises(ProviderError, match=r"making the thing: no answer within 0\.05 s") as caught:
        await vendor.make(within=SHORT)
    assert caught.value.outcome == "unknown"
    assert vendor.calls == ["create", "find", "end x"]


async def cancelled(vendor: Vendor, when: anyio.Event, then: Callable[[], object], **options: Any) -> None:
    """Cancel the making when an event is set, and call something afterwards."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await when.wait()
                scope.cancel()
                then()

            tasks.start_soon(cancel)
            await vendor.make(**options)
    assert scope.cancelled_caught


async def test_a_cancellation_waits_for_the_answer_and_ends_what_was_made() -> None:
    begun, answered = anyio.Event(), anyio.Event()

    async def create() -> str:
        begun.set()
        await answered.wait()
        return "x"

    vendor = Vendor(create=create)
    await cancelled(vendor, begun, answered.set, finish=None)
    assert vendor.calls == ["create", "end x"]


async def test_a_cancellation_waits_for_a_bounded_time_and_then_looks_for_what_was_made() -> None:
    begun, given_up = anyio.Event(), anyio.Event()

    async def create() -> str:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            given_up.set()
        return ""

    vendor = Vendor(create=create, find=["x"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(cancelled, vendor, begun, lambda: None, cleanup=SHORT, within=LIMIT))
        with anyio.fail_after(LIMIT / 2):
            await given_up.wait()
    assert vendor.calls == ["create", "find", "end x"]


async def test_an_end_that_fails_is_a_warning_and_the_error_stays(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "agenthost.adapter")
    vendor = Vendor(create=answers("x"), end=fails(ProviderError("away")))

    async def finish(_thing: str) -> None:
        await anyio.lowlevel.checkpoint()
        raise ProviderError("no lease")

    with pytest.raises(ProviderError, match="no lease"):
        await vendor.make(finish=finish)
    assert "the thing may be left until its lifetime is over: away" in caplog.text


async def test_an_end_that_nobody_answers_is_a_warning_after_a_bounded_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "agenthost.adapter")
    vendor = Vendor(create=anyio.sleep_forever, find=["x"], end=anyio.sleep_forever)
    with pytest.raises(ProviderError, match="no answer within"):
        await vendor.make(within=SHORT, cleanup=SHORT)
    assert "the thing may be left until its lifetime is over: no answer within 0.05 s" in caplog.text


async def test_a_taken_name_whose_owner_cannot_be_seen_may_be_this_requests_own_and_is_ended() -> None:
    # The vendor's client sent the request twice, and the first one has made the thing.
    away = ProviderError("away")
    vendor = Vendor(create=fails(NameTakenError("taken")), find=[away, away, "ours"])
    with pytest.raises(ProviderError, match="taken, and by which sandbox is not known") as caught:
        await vendor.make()
    assert caught.value.outcome == "unknown"
    assert vendor.calls == ["create", "find", "find", "find", "end ours"]

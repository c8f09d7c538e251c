"""Calls of a vendor's client: bounded in time, translated by a table, repeated where that does no harm."""

from __future__ import annotations

import traceback
from types import SimpleNamespace
from typing import NoReturn

import anyio
import anyio.lowlevel
import pytest

from agenthost.adapter import calls as module
from agenthost.adapter.calls import Calls, ErrorRow, LateError
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderBusyError,
    ProviderError,
    SandboxNotFoundError,
)


class VendorError(Exception):
    """An error of the vendor's client."""

    def __init__(self, text: str, *, status: int = 0, after: float | None = None) -> None:
        super().__init__(text)
        self.status_code = status
        self.retry_after = after


class ResponseError(VendorError):
    """One that leaves the status to its response, as httpx's does."""

    def __init__(self, status: int) -> None:
        super().__init__("x")
        del self.status_code
        self.response = SimpleNamespace(status_code=status)


class PrivateError(VendorError):
    """One whose text may not be shown."""


OF_THE_CALL = "key-2"
ROWS = (
    ErrorRow(PrivateError, ProviderError, "something private", quote=False),
    ErrorRow(VendorError, SandboxNotFoundError, "not there", status=404),
    ErrorRow(VendorError, ConfigError, "the quota", contains="Quota"),
    ErrorRow(VendorError, ProviderBusyError, "busy", status=429),
    ErrorRow(VendorError, ProviderError, "lost", "unknown", status=502),
    ErrorRow(VendorError, ProviderError, "refused"),
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Give calls that are repeated at once."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
    return Calls("Acme", lambda: ROWS, secrets=("key-1", ""))


class Counted:
    """A call that fails with these errors, one after the other, and succeeds then."""

    def __init__(self, *errors: Exception) -> None:
        self.count = 0
        self._errors = list(errors)

    async def __call__(self) -> str:
        self.count += 1
        await anyio.lowlevel.checkpoint()
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.mark.parametrize(
    "error", [VendorError("502", status=502), VendorError("429", status=429), KeyError("of no row")]
)
async def test_a_call_whose_outcome_is_unknown_and_one_that_met_a_busy_vendor_are_repeated(
    calls: Calls, error: Exception
) -> None:
    call = Counted(error, error)
    assert await calls.repeat("looking", call) == "done"
    assert call.count == 3


async def test_a_call_is_repeated_so_often_and_the_last_error_is_raised(calls: Calls) -> None:
    call = Counted(*(VendorError(f"{number}", status=502) for number in range(5)))
    with pytest.raises(ProviderError, match=r"looking: lost \(1\)"):
        await calls.repeat("looking", call, attempts=2)
    assert call.count == 2


@pytest.mark.parametrize(
    "error",
    [
        VendorError("no"),
        VendorError("429", status=429, after=5.0),
        VendorError("502", status=502, after=0.5),
        VendorError("404", status=404),
        ConfigError("of agenthost itself"),
    ],
    ids=["refused", "busy, later", "unknown, later", "not found", "own"],
)
async def test_a_call_that_was_refused_or_that_the_vendor_wants_later_is_not_repeated(
    calls: Calls, error: Exception
) -> None:
    call = Counted(error)
    with pytest.raises(AgentHostError):
        await calls.repeat("looking", call)
    assert call.count == 1


async def test_a_call_that_takes_too_long_is_cancelled_and_not_repeated(calls: Calls) -> None:
    count = 0

    async def call() -> NoReturn:
        nonlocal count
        count += 1
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(LateError, match=r"looking: Acme did not answer within 0\.01 s") as caught:
        await calls.repeat("looking", call, within=0.01)
    assert caught.value.outcome == "unknown"
    assert count == 1


async def test_a_cancellation_passes_through(calls: Calls) -> None:
    with anyio.CancelScope() as scope:
        async with calls.bounded("looking"):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("error", "raises", "outcome", "text"),
    [
        (VendorError("x", status=404), SandboxNotFoundError, "", "looking: not there (x)"),
        (ResponseError(404), SandboxNotFoundError, "", "looking: not there (x)"),
        (VendorError("the QUOTA is full"), ConfigError, "", "looking: the quota (the QUOTA is full)"),
        (VendorError("x", status=502), ProviderError, "unknown", "looking: lost (x)"),
        (VendorError("x"), ProviderError, "refused", "looking: refused (x)"),
        (VendorError(""), ProviderError, "refused", "looking: refused (VendorError)"),
        (
            PrivateError("http://x?token=1"),
            ProviderError,
            "refused",
            "looking: something private (PrivateError)",
        ),
        (KeyError("x"), ProviderError, "unknown", "looking: Acme's client failed ('x')"),
    ],
)
def test_the_first_row_that_fits_gives_class_outcome_and_text(
    calls: Calls, error: Exception, raises: type[AgentHostError], outcome: str, text: str
) -> None:
    made = calls.translate(error, "looking")
    assert type(made) is raises
    assert getattr(made, "outcome", "") == outcome
    assert str(made) == text


def test_the_time_that_the_vendor_states_is_kept(calls: Calls) -> None:
    made = calls.translate(VendorError("x", status=429, after=7), "looking")
    assert isinstance(made, ProviderBusyError)
    assert made.retry_after == 7.0


@pytest.mark.parametrize("secret", ["key-1", OF_THE_CALL])
async def test_a_secret_is_neither_in_the_message_nor_in_what_is_chained(calls: Calls, secret: str) -> None:
    with pytest.raises(ProviderError) as caught:
        async with calls.bounded("making", secrets=(OF_THE_CALL,)):
            raise VendorError(f"with {secret}")
    assert str(caught.value) == "making: refused (with ***)"
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None  # which tools that show all of an error would show


async def test_an_error_that_holds_no_secret_is_chained(calls: Calls) -> None:
    error = VendorError("x")
    with pytest.raises(ProviderError) as caught:
        async with calls.bounded("making"):
            raise error
    assert caught.value.__cause__ is error


async def test_a_call_that_must_be_made_once_is_made_again_only_when_the_vendor_asks_for_that(
    calls: Calls,
) -> None:
    call = Counted(VendorError("later", status=429, after=0), VendorError("later", status=429, after=0))
    assert await calls.when_free("making it", call) == "done"
    assert call.count == 3


@pytest.mark.parametrize(
    "error",
    [
        VendorError("busy", status=429),
        VendorError("much later", status=429, after=21),
        VendorError("lost", status=502, after=0),
        VendorError("no", after=0),
    ],
    ids=["without a time", "too late", "unknown", "refused"],
)
async def test_no_other_error_of_a_call_that_must_be_made_once_makes_it_again(
    calls: Calls, error: VendorError
) -> None:
    call = Counted(error)
    with pytest.raises(ProviderError):
        await calls.when_free("making it", call)
    assert call.count == 1


async def test_a_vendor_that_always_asks_for_later_is_asked_three_times(calls: Calls) -> None:
    call = Counted(*[VendorError("later", status=429, after=0) for _ in range(5)])
    with pytest.raises(ProviderBusyError):
        await calls.when_free("making it", call)
    assert call.count == 3

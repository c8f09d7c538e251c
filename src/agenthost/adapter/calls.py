"""Call a vendor's client: each call bounded in time, each of the vendor's errors translated by one table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import anyio

from agenthost.errors import AgentHostError, ProviderBusyError, ProviderError

T = TypeVar("T")

CALL_SECONDS = 60.0  # that one call may take, retries of the vendor's client included
_FIRST_PAUSE, _GROWTH = (
    0.2,
    4,
)  # seconds before the first repetition; each further pause is longer by this factor


def _stated(error: object) -> float | None:
    after: object = getattr(error, "retry_after", None)
    return float(after) if isinstance(after, int | float) else None


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What one kind of the vendor's errors means.

    Attributes:
        vendor: The vendor's class. Rows are tried in order: put a class before its base classes.
        raises: The class to raise.
        meaning: The meaning in words, put before the vendor's text.
        outcome: Whether the call may have been carried out nevertheless. See ProviderError.
        status: The HTTP status that ``status_code`` of the error, or of its ``response``, must have; None is
            any.
        contains: Text that the error's message must hold, in any case.
        quote: Whether the vendor's text may be shown. False where it may hold URLs with secrets.
        after: Returns the seconds after which the vendor wants the call again, None where the error states
            none.
    """

    vendor: type[BaseException]
    raises: type[AgentHostError]
    meaning: str
    outcome: Literal["refused", "unknown"] = "refused"
    status: int | None = None
    contains: str = ""
    quote: bool = True
    after: Callable[[Any], float | None] = field(default=_stated)

    def fits(self, error: BaseException) -> bool:
        """Return whether this row describes ``error``."""
        return (
            isinstance(error, self.vendor)
            and self.status in (None, _status_of(error))
            and self.contains.lower() in str(error).lower()
        )


def _status_of(error: BaseException) -> object:
    """Return the HTTP status of an error: its own, or that of its response, as errors of httpx have it."""
    answered = error if hasattr(error, "status_code") else getattr(error, "response", None)
    return getattr(answered, "status_code", None)


class LateError(ProviderError):
    """The vendor did not answer within the bound of the call, and the call was cancelled."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args, outcome="unknown")


class Calls:
    """The only way in which an adapter calls its vendor.

    Args:
        vendor: The vendor's name, for messages.
        rows: Returns the table of errors. Called when an error is there, so that building the table may
            import the vendor's client.
        secrets: Values that no message may hold.
    """

    def __init__(
        self, vendor: str, rows: Callable[[], Sequence[ErrorRow]], *, secrets: Sequence[str] = ()
    ) -> None:
        self.vendor = vendor
        self._rows = rows
        self._secrets = tuple(secret for secret in secrets if secret)

    @asynccontextmanager
    async def bounded(
        self, doing: str, *, within: float | None = CALL_SECONDS, secrets: Sequence[str] = ()
    ) -> AsyncGenerator[None]:
        """Bound the block in time and translate what it raises.

        Args:
            doing: What the block does, in words that begin a message: ``ending sandbox web-1``.
            within: Seconds; None is no bound.
            secrets: Further values that no message may hold. The vendor's own exception is then not chained.

        Raises:
            AgentHostError: What the table states. An error without a row, and a call that takes too long, is
                a ProviderError with the outcome ``unknown``.
        """
        try:
            with anyio.move_on_after(within) as scope:
                yield
        except AgentHostError:
            raise
        except Exception as exc:
            error = self.translate(exc, doing, secrets=secrets)
            if not secrets and not any(secret in f"{exc!r}{exc}" for secret in self._secrets):
                raise error from exc
            try:
                raise error from None
            finally:
                error.__context__ = None  # the vendor's exception may quote what was sent
        if scope.cancelled_caught:
            raise LateError(f"{doing}: {self.vendor} did not answer within {within:g} s")

    async def repeat(
        self,
        doing: str,
        call: Callable[[], Awaitable[T]],
        *,
        within: float = 30.0,
        attempts: int = 3,
    ) -> T:
        """Return what an idempotent call returns, repeated where its outcome is unknown.

        A call that took too long is not repeated, nor one that the vendor wants later than at once.

        Args:
            doing: See ``bounded``.
            call: Makes the call. Making it twice must do no harm.
            within: Seconds for each attempt.
            attempts: How often at most, 1 or more.

        Raises:
            AgentHostError: As ``bounded`` does.
        """
        pause = _FIRST_PAUSE
        for _ in range(attempts - 1):
            try:
                async with self.bounded(doing, within=within):
                    return await call()
            except LateError:
                raise
            except ProviderError as error:
                if error.retry_after is not None:
                    raise
                if error.outcome == "refused" and not isinstance(error, ProviderBusyError):
                    raise
            await anyio.sleep(pause)
            pause *= _GROWTH
        async with self.bounded(doing, within=within):
            return await call()

    async def when_free(
        self,
        doing: str,
        call: Callable[[], Awaitable[T]],
        *,
        within: float = CALL_SECONDS,
        patience: float = 20.0,
        attempts: int = 3,
        secrets: Sequence[str] = (),
    ) -> T:
        """Return what a call returns that must not be made twice; wait where the vendor asks for that.

        Only a call that the vendor refused, stating when it wants the call again, is made again.

        Args:
            doing: See ``bounded``.
            call: Makes the call.
            within: Seconds for each attempt.
            patience: Seconds that the vendor may ask to wait; a call that it wants later is not made again.
            attempts: How often at most, 1 or more.
            secrets: See ``bounded``.

        Raises:
            AgentHostError: As ``bounded`` does.
        """
        for _ in range(attempts - 1):
            try:
                async with self.bounded(doing, within=within, secrets=secrets):
                    return await call()
            except ProviderBusyError as error:
                again = error.retry_after
                if error.outcome == "unknown" or again is None or again > patience:
                    raise
            await anyio.sleep(again)
        async with self.bounded(doing, within=within, secrets=secrets):
            return await call()

    def translate(self, error: Exception, doing: str, *, secrets: Sequence[str] = ()) -> AgentHostError:
        """Return the error to raise for one of the vendor's."""
        row = next((row for row in self._rows() if row.fits(error)), None)
        if row is None:
            row = ErrorRow(Exception, ProviderError, f"{self.vendor}'s client failed", "unknown")
        text = str(error).strip() if row.quote else ""
        for secret in (*self._secrets, *secrets):
            text = text.replace(secret, "***") if secret else text
        message = f"{doing}: {row.meaning} ({text or type(error).__name__})"
        if not issubclass(row.raises, ProviderError):
            return row.raises(message)
        return row.raises(message, outcome=row.outcome, retry_after=row.after(error))


def httpx_rows(vendor: str) -> tuple[ErrorRow, ...]:
    """Return the rows for a vendor's client that is built on httpx. Its texts may hold URLs with a query."""
    from agenthost.http import HTTPX_CONNECT_ERROR, HTTPX_TIMEOUT, HTTPX_TRANSPORT_ERROR

    late, unreachable = f"{vendor} did not answer in time", f"{vendor} could not be reached"
    lost = f"the answer of {vendor} was lost"
    return (
        ErrorRow(HTTPX_CONNECT_ERROR, ProviderError, unreachable, quote=False),
        ErrorRow(HTTPX_TIMEOUT, ProviderError, late, "unknown", quote=False),
        ErrorRow(HTTPX_TRANSPORT_ERROR, ProviderError, lost, "unknown", quote=False),
    )


def rest_rows(vendor: str) -> tuple[ErrorRow, ...]:
    """Return the rows for a vendor that is called by a RestClient."""
    from agenthost.http import TransportError

    unreachable, lost = f"{vendor} could not be reached", f"the answer of {vendor} was lost"
    return (
        ErrorRow(TransportError, ProviderError, unreachable, contains="ConnectError"),
        ErrorRow(TransportError, ProviderError, unreachable, contains="ConnectTimeout"),
        ErrorRow(TransportError, ProviderError, lost, "unknown"),
    )

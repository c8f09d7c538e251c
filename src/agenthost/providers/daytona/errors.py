"""What Daytona's errors mean. The classes are those of the package that is installed: see ``workarounds``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agenthost.adapter.calls import ErrorRow
from agenthost.adapter.images import ImageGoneError
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)

_TIER = "the organization's tier does not let a sandbox choose its own network"
_QUOTA = "the organization's quota is used up"
_FULL = "Daytona has no capacity at the moment"
_NO_SNAPSHOT = "Daytona does not have this snapshot"


def error_rows(kit: Any) -> Sequence[ErrorRow]:
    """Return the table for the classes of ``kit``, the vendor's package."""
    row, error, lost = ErrorRow, kit.DaytonaError, kit.DaytonaConnectionError
    refused, absent, conflict = kit.DaytonaBadRequestError, kit.DaytonaNotFoundError, kit.DaytonaConflictError
    return (
        row(kit.DaytonaAuthenticationError, ProviderError, "Daytona refused the credential"),
        row(kit.DaytonaRateLimitError, ProviderBusyError, "Daytona received too many requests", after=after),
        row(error, QuotaError, _QUOTA, contains="limit exceeded"),
        row(kit.DaytonaForbiddenError, ProviderError, "Daytona does not allow this"),
        row(refused, UnsupportedError, _TIER, contains="cannot be overridden"),
        row(refused, ImageGoneError, _NO_SNAPSHOT, contains="snapshot"),
        row(refused, ConfigError, "Daytona does not accept this"),
        row(kit.DaytonaUnprocessableEntityError, ConfigError, "Daytona does not accept this"),
        # First: the name of a sandbox may hold the word of the next row.
        row(absent, SandboxNotFoundError, "Daytona does not have this sandbox", contains="sandbox with"),
        row(absent, ImageGoneError, _NO_SNAPSHOT, contains="snapshot"),
        row(absent, SandboxNotFoundError, "Daytona does not have this"),
        row(conflict, NameTakenError, "a sandbox of this name exists", contains="already exists"),
        row(conflict, ProviderBusyError, "Daytona cannot do this now"),
        row(kit.DaytonaGoneError, SandboxGoneError, "the sandbox is gone"),
        row(kit.DaytonaQueueTimeoutError, QuotaError, "Daytona had no room and gave the sandbox up"),
        row(lost, ProviderError, "Daytona could not be reached", contains="cannot connect to host"),
        row(lost, ProviderError, "the answer of Daytona was lost", "unknown"),
        row(kit.DaytonaTimeoutError, ProviderError, "Daytona did not answer in time", "unknown"),
        row(kit.DaytonaServiceUnavailableError, ProviderBusyError, _FULL, "unknown", after=after),
        row(error, ProviderError, "Daytona failed", "unknown"),
    )


def after(error: Any) -> float | None:
    """Return the seconds that an answer asks to wait: Daytona names the throttle in the header's name."""
    found = [value for name, value in error.headers.items() if name.lower().startswith("retry-after")]
    return max((float(value) for value in found if str(value).isdecimal()), default=None)

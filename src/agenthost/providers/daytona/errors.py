"""What Daytona's errors mean. The classes are those of the package that is installed: see ``kit``."""

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

_TIER = (
    "the organization's tier does not let a sandbox choose its own network: use the default network, or a "
    "higher tier"
)
_QUOTA = "the organization's quota is used up, or a payment is due"
_RETRY_AFTER = "retry-after"


def error_rows(kit: Any) -> Sequence[ErrorRow]:
    """Return the table for the classes of ``kit``, the vendor's package."""
    error, refused = kit.DaytonaError, kit.DaytonaBadRequestError
    return (
        ErrorRow(kit.DaytonaAuthenticationError, ProviderError, "Daytona refused the credential"),
        ErrorRow(kit.DaytonaRateLimitError, ProviderBusyError, "Daytona received too many requests", after=after),
        ErrorRow(error, QuotaError, _QUOTA, contains="limit exceeded"),
        ErrorRow(error, QuotaError, _QUOTA, contains="suspended"),
        ErrorRow(kit.DaytonaForbiddenError, ProviderError, "Daytona does not allow this"),
        ErrorRow(refused, UnsupportedError, _TIER, contains="cannot be overridden"),
        ErrorRow(refused, ImageGoneError, "Daytona does not have this snapshot", contains="snapshot"),
        ErrorRow(refused, ConfigError, "Daytona does not accept this"),
        ErrorRow(kit.DaytonaUnprocessableEntityError, ConfigError, "Daytona does not accept this"),
        ErrorRow(
            kit.DaytonaNotFoundError,
            ImageGoneError,
            "Daytona does not have this snapshot",
            contains="snapshot",
        ),
        ErrorRow(kit.DaytonaNotFoundError, SandboxNotFoundError, "Daytona does not have this"),
        ErrorRow(
            kit.DaytonaConflictError, NameTakenError, "a sandbox of this name exists", contains="already exists"
        ),
        ErrorRow(kit.DaytonaConflictError, ProviderBusyError, "Daytona cannot do this now"),
        ErrorRow(kit.DaytonaGoneError, SandboxGoneError, "the sandbox is gone"),
        ErrorRow(kit.DaytonaQueueTimeoutError, QuotaError, "Daytona had no room and gave the sandbox up"),
        ErrorRow(
            kit.DaytonaConnectionError,
            ProviderError,
            "Daytona could not be reached",
            contains="cannot connect to host",
        ),
        ErrorRow(kit.DaytonaConnectionError, ProviderError, "the answer of Daytona was lost", "unknown"),
        ErrorRow(kit.DaytonaTimeoutError, ProviderError, "Daytona did not answer in time", "unknown"),
        ErrorRow(
            kit.DaytonaServiceUnavailableError,
            ProviderBusyError,
            "Daytona has no capacity at the moment",
            "unknown",
            after=after,
        ),
        ErrorRow(error, ProviderError, "Daytona failed", "unknown"),
    )


def after(error: Any) -> float | None:
    """Return the seconds that an answer asks to wait: Daytona names the throttle in the header's name."""
    waits = [
        float(value)
        for name, value in error.headers.items()
        if name.lower().startswith(_RETRY_AFTER) and str(value).isdecimal()
    ]
    return max(waits, default=None)

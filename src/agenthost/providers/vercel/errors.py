"""What Vercel's errors mean. Does not import httpx: its errors arrive as an OSError that names the kind."""

from __future__ import annotations

from agenthost.adapter.calls import ErrorRow
from agenthost.adapter.images import ImageGoneError
from agenthost.adapter.rest import RestError
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

_QUOTA = "the account runs as many sandboxes as its plan allows; end some, or ask Vercel for more"
_BUSY = "Vercel received too many requests"
_GONE = "the sandbox has stopped"

ROWS = (
    ErrorRow(RestError, NameTakenError, "a sandbox of this name exists already", contains="already exists"),
    ErrorRow(RestError, ImageGoneError, "Vercel does not have this snapshot", contains="snapshot_not_found"),
    ErrorRow(RestError, ConfigError, "Vercel does not accept this", status=400),
    ErrorRow(RestError, ProviderError, "Vercel refused the token", status=401),
    ErrorRow(RestError, QuotaError, "the plan's allowance is used up, or a payment is due", status=402),
    ErrorRow(RestError, UnsupportedError, "the plan does not include this", status=403, contains="plan"),
    ErrorRow(RestError, ProviderError, "Vercel refused the token, or does not allow this", status=403),
    ErrorRow(RestError, SandboxNotFoundError, "Vercel has no such sandbox", status=404),
    ErrorRow(RestError, ProviderBusyError, "Vercel cannot do this now", status=409),
    # Also where Vercel has lost its own connection to a sandbox that runs.
    ErrorRow(RestError, ProviderError, "the stream was closed", "unknown", contains="stream_closed"),
    ErrorRow(RestError, SandboxGoneError, _GONE, status=410),
    ErrorRow(RestError, ProviderBusyError, "the sandbox accepts no calls now", status=422),
    ErrorRow(RestError, QuotaError, _QUOTA, status=429, contains="concurrency limit"),
    ErrorRow(RestError, ProviderBusyError, _BUSY, status=429),
    ErrorRow(RestError, ProviderError, "Vercel failed", "unknown"),
    ErrorRow(OSError, ProviderError, "Vercel could not be reached", contains="ConnectError"),
    ErrorRow(OSError, ProviderError, "the answer of Vercel was lost", "unknown"),
)

"""What E2B's errors mean. Imports the vendor's client."""

from __future__ import annotations

import e2b

from agenthost.adapter.calls import ErrorRow, httpx_rows
from agenthost.errors import (
    ConfigError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)

_QUOTA = "maximum number of concurrent"
_QUOTA_REACHED = "the account runs as many sandboxes as its plan allows; end some, or ask E2B for more"
_NO_HEADERS = "E2B has not enabled added headers for this team"

# A busy E2B leaves the outcome open: its client tries again by itself, and only the last try was refused.
ROWS = (
    ErrorRow(e2b.AuthenticationException, ProviderError, "E2B refused the API key, or the sandbox its token"),
    ErrorRow(e2b.RateLimitException, QuotaError, _QUOTA_REACHED, contains=_QUOTA),
    ErrorRow(e2b.RateLimitException, ProviderBusyError, "E2B received too many requests", "unknown"),
    ErrorRow(e2b.ServiceBusyException, ProviderBusyError, "E2B has no capacity at the moment", "unknown"),
    ErrorRow(e2b.SandboxNotFoundException, SandboxNotFoundError, "E2B has no such sandbox"),
    ErrorRow(e2b.SandboxNotRunningException, SandboxGoneError, "the sandbox is not running"),
    ErrorRow(e2b.SandboxUnreachableException, ProviderError, "the sandbox could not be reached", "unknown"),
    ErrorRow(e2b.TimeoutException, ProviderError, "E2B did not answer in time", "unknown"),
    ErrorRow(e2b.InvalidArgumentException, ConfigError, "E2B's client does not accept this"),
    ErrorRow(e2b.NotEnoughSpaceException, ProviderError, "the disk of the sandbox is full"),
    ErrorRow(e2b.GuestUnresponsiveException, ProviderError, "the sandbox does not wake up with its memory"),
    ErrorRow(e2b.TemplateException, ProviderError, "the template is not usable"),
    ErrorRow(e2b.BuildException, ProviderError, "the template was not built"),
    ErrorRow(e2b.NotFoundException, ProviderError, "E2B does not have this"),
    ErrorRow(
        e2b.SandboxException, UnsupportedError, _NO_HEADERS, status=400, contains="transform rules are not"
    ),
    ErrorRow(e2b.SandboxException, ConfigError, "E2B does not accept this", status=400),
    ErrorRow(e2b.SandboxException, ProviderError, "E2B does not allow this", status=403),
    ErrorRow(e2b.SandboxException, ConfigError, "E2B does not have this", status=404),
    ErrorRow(e2b.SandboxException, ProviderBusyError, "E2B cannot do this now", "unknown", status=409),
    *httpx_rows("E2B"),
)

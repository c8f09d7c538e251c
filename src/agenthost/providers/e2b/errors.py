"""E2B's errors as ours. Imports the vendor's client: import it where that is needed anyway.

The rows are tried in order; each class stands before those that it is a kind of.
"""

from __future__ import annotations

from dataclasses import dataclass

import e2b
import httpx

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.providers.e2b.client import BusyError, UnclearError


@dataclass(frozen=True, slots=True)
class Row:
    """What one class of theirs means.

    Attributes:
        theirs: The class.
        ours: The class that is raised. UnclearError: nobody knows whether the call was done. BusyError: this
            try was refused, and the client may have made others before.
        says: In words, before the vendor's own.
    """

    theirs: type[Exception]
    ours: type[AgentHostError]
    says: str


ROWS = (
    Row(e2b.AuthenticationException, ProviderError, "E2B refused the API key, or the sandbox its token"),
    Row(e2b.RateLimitException, BusyError, "E2B is asked too often"),
    Row(e2b.ServiceBusyException, BusyError, "E2B has no capacity at the moment"),
    Row(e2b.SandboxNotFoundException, SandboxNotFoundError, "E2B has no such sandbox"),
    Row(e2b.SandboxNotRunningException, SandboxGoneError, "the sandbox is not running"),
    Row(e2b.SandboxUnreachableException, UnclearError, "the sandbox could not be reached"),
    Row(e2b.TimeoutException, UnclearError, "E2B did not answer in time"),
    Row(e2b.InvalidArgumentException, ConfigError, "E2B's client does not take this"),
    Row(e2b.NotEnoughSpaceException, ProviderError, "the disk of the sandbox is full"),
    Row(e2b.GuestUnresponsiveException, ProviderError, "the sandbox does not wake up with its memory"),
    Row(e2b.TemplateException, ProviderError, "the template is not usable"),
    Row(e2b.BuildException, ProviderError, "the template was not built"),
    Row(e2b.NotFoundException, ProviderError, "E2B has no such thing"),
    Row(httpx.TimeoutException, UnclearError, "E2B did not answer in time"),
    Row(httpx.ConnectError, ProviderError, "E2B could not be reached"),
    Row(httpx.TransportError, UnclearError, "the answer of E2B was lost"),
    Row(TimeoutError, UnclearError, "E2B did not answer in time"),
)
# By the HTTP status of an answer, where the class tells no more.
STATUSES: dict[int, Row] = {
    400: Row(e2b.SandboxException, ConfigError, "E2B does not take this"),
    403: Row(e2b.SandboxException, ProviderError, "E2B does not allow this"),
    404: Row(e2b.SandboxException, ConfigError, "E2B does not have what was named"),
    409: Row(e2b.SandboxException, BusyError, "E2B cannot do this now"),
}
ELSE = Row(Exception, UnclearError, "E2B's client failed")


def row_of(error: Exception) -> Row:
    """Return what an error means."""
    for row in ROWS:
        if isinstance(error, row.theirs):
            return row
    status = getattr(error, "status_code", None)
    return STATUSES.get(status, ELSE) if isinstance(status, int) else ELSE


def translate(error: Exception, doing: str, *secrets: str) -> AgentHostError:
    """Return our error for one of the vendor's client.

    Args:
        error: Theirs.
        doing: What was asked for, in words.
        secrets: What must not be in the text, though E2B may have quoted it.
    """
    row = row_of(error)
    # The transport's own words may hold addresses with a query in them.
    theirs = type(error).__name__ if isinstance(error, httpx.HTTPError) else str(error)
    for secret in secrets:
        if secret:
            theirs = theirs.replace(secret, "...")
    return row.ours(f"{doing}: {row.says} ({theirs or type(error).__name__})")

"""What the errors of the Machines API mean."""

from __future__ import annotations

from collections.abc import Sequence

from agenthost.adapter.calls import ErrorRow, rest_rows
from agenthost.adapter.rest import RestError
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxNotFoundError,
)


class AppError(RestError):
    """A refusal of a call that is about an app, not about one machine."""

    @classmethod
    def of(cls, error: RestError) -> AppError:
        """Return the same refusal, of such a call."""
        message = str(error).removeprefix(f"{error.status_code}: ")
        return cls(error.status_code, error.code, message, retry_after=error.retry_after)


class MissingAppError(ConfigError):
    """There is no such app. ``agenthost fly init`` makes it."""


class ForeignAppError(ProviderError):
    """The token is not for this app, which may belong to another organisation."""


class CapacityError(ProviderBusyError):
    """The region has no room for a machine of this size. Another region, or a smaller machine, may have."""


_NO_ROOM = "Fly has no room for this machine in the region; name more regions, or ask for less"
_OVER_QUOTA = (
    "the organisation has as many machines in the region as Fly allows; end some, or ask Fly for more"
)
_NO_APP = "there is no such app; `agenthost fly init` makes it"
_NOT_YOURS = "the token is not for this app, or another organisation has an app of this name"
_NO_TOKEN = "Fly refused the token"
# Fly has no status for a lack of room. Its words for one differ from call to call.
_CAPACITY = (
    *("insufficient_capacity", "insufficient resources", "insufficient memory", "no capacity"),
    "could not reserve resource",
)


def rows() -> Sequence[ErrorRow]:
    """Return the table. Imports the HTTP client, whose errors are in it."""
    return (*_ROWS, *rest_rows("Fly"))


_ROWS = (
    ErrorRow(RestError, NameTakenError, "the name is taken", contains="unique machine name violation"),
    ErrorRow(AppError, NameTakenError, "the name is taken", contains="name_taken"),
    ErrorRow(RestError, QuotaError, _OVER_QUOTA, contains="over the allowed quota"),
    *(ErrorRow(RestError, CapacityError, _NO_ROOM, contains=words) for words in _CAPACITY),
    ErrorRow(RestError, ConfigError, "Fly does not accept this", status=400),
    ErrorRow(RestError, ProviderError, _NO_TOKEN, status=401),
    ErrorRow(AppError, ForeignAppError, _NOT_YOURS, status=403),
    ErrorRow(RestError, ProviderError, "Fly does not allow this", status=403),
    ErrorRow(AppError, MissingAppError, _NO_APP, status=404),
    ErrorRow(RestError, SandboxNotFoundError, "Fly has no such machine", status=404),
    ErrorRow(RestError, ProviderError, "Fly did not do this in time", "unknown", status=408),
    ErrorRow(RestError, ProviderBusyError, "Fly cannot do this now", status=409),
    ErrorRow(RestError, ProviderError, "the state of the machine does not allow this", status=412),
    ErrorRow(RestError, ConfigError, "Fly does not accept this", status=422),
    ErrorRow(RestError, ProviderBusyError, "Fly received too many requests", status=429),
    ErrorRow(RestError, ProviderError, "Fly failed", "unknown"),
)

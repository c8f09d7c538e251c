"""What the errors of the Worker mean."""

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
    SandboxGoneError,
    SandboxNotFoundError,
)


class WrongWorkerError(ConfigError):
    """The Worker is not one that ``agenthost cloudflare init`` has made, or has another version."""


class OpenWorkerError(ConfigError):
    """The Worker answers without a key, or has none: everyone who finds its address could use it."""


SET_KEY = "set one: `npx wrangler secret put SANDBOX_API_KEY` in the directory of the Worker"
_NO_KEY = f"the Worker has no key, and refuses everything; {SET_KEY}"
_STOCK = (
    "this is not a Worker of agenthost; Cloudflare's own bridge keeps neither the end nor the labels of "
    "sandboxes. `agenthost cloudflare init` makes a Worker that does"
)
_FULL = "as many containers run as the Worker allows; end some, or raise max_instances in its wrangler.jsonc"
_BEFORE = "something before the Worker, Cloudflare Access for instance, does not let requests pass"
_CUT = "Cloudflare replaced the container meanwhile"


def rows() -> Sequence[ErrorRow]:
    """Return the table. Imports the HTTP client, whose errors are in it."""
    return (*_ROWS, *rest_rows("Cloudflare"))


# Codes are those of the Worker's answers, and stand at the beginning of each text.
_ROWS = (
    ErrorRow(RestError, OpenWorkerError, _NO_KEY, contains="not_configured"),
    ErrorRow(RestError, QuotaError, _FULL, contains="capacity_exceeded"),
    ErrorRow(
        RestError, ProviderBusyError, "Cloudflare replaces containers", contains="container_unavailable"
    ),
    ErrorRow(RestError, ProviderError, _CUT, "unknown", contains="operation_interrupted"),
    ErrorRow(RestError, WrongWorkerError, _STOCK, status=200),  # an answer that is not JSON
    ErrorRow(RestError, ProviderError, _BEFORE, status=302),
    ErrorRow(RestError, ConfigError, "the Worker does not accept this", status=400),
    ErrorRow(RestError, ProviderError, "the Worker refused the key", status=401),
    ErrorRow(RestError, ProviderError, _BEFORE, status=403),
    ErrorRow(RestError, SandboxNotFoundError, "the Worker has no such sandbox", contains="404 not_found"),
    ErrorRow(RestError, WrongWorkerError, _STOCK, status=404),
    ErrorRow(RestError, NameTakenError, "a sandbox of this id exists already", contains="name_taken"),
    ErrorRow(RestError, ProviderBusyError, "the sandbox is still being made", status=409),
    ErrorRow(RestError, SandboxGoneError, "Cloudflare has ended or replaced the container", status=410),
    ErrorRow(RestError, ConfigError, "this is too large for the Worker", status=413),
    ErrorRow(RestError, ProviderBusyError, "Cloudflare received too many requests", status=429),
    ErrorRow(RestError, ProviderError, "the Worker failed", "unknown"),
)

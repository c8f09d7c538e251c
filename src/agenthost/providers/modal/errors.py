"""What Modal's errors mean. Imports the vendor's client."""

from __future__ import annotations

import modal.exception as vendor
from grpclib.exceptions import StreamTerminatedError

from agenthost.adapter.calls import ErrorRow
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.modal.workarounds import THROTTLED, stated_wait

_LOGIN = "Modal refused the token: token_id and token_secret, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
_BUILDER = "the workspace's image builder lacks this Python: give python='3.12', or take builder 2025.06"
_UNREACHED = "Modal could not be reached, or did not answer in time"
_LOST = (vendor.ConnectionError, vendor.TimeoutError, StreamTerminatedError, OSError)

# A ConflictError is an InvalidError.
ROWS = (
    ErrorRow(vendor.AlreadyExistsError, NameTakenError, "the name is taken at Modal"),
    ErrorRow(vendor.ConflictError, ProviderError, "Modal cannot do this in the present state"),
    ErrorRow(vendor.InvalidError, ConfigError, _BUILDER, contains="python version"),
    ErrorRow(vendor.InvalidError, ConfigError, "Modal does not accept this"),
    ErrorRow(vendor.NotFoundError, SandboxNotFoundError, "Modal does not have this"),
    ErrorRow(vendor.AuthError, ProviderError, _LOGIN),
    ErrorRow(vendor.PermissionDeniedError, ProviderError, "Modal does not allow this"),
    ErrorRow(vendor.ResourceExhaustedError, ProviderBusyError, THROTTLED, after=stated_wait),
    ErrorRow(vendor.UnimplementedError, UnsupportedError, "Modal does not do this"),
    ErrorRow(vendor.InternalError, ProviderError, "Modal failed", "unknown"),
    ErrorRow(vendor.ServiceError, ProviderError, "Modal failed", "unknown"),
    *(ErrorRow(lost, ProviderError, _UNREACHED, "unknown") for lost in _LOST),
    ErrorRow(vendor.ClientClosed, ProviderError, "the client is closed"),
    ErrorRow(vendor.Error, ProviderError, "Modal refused this"),
)

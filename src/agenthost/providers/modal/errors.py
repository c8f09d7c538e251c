"""What Modal's errors mean. Imports the vendor's client."""

from __future__ import annotations

from typing import Any, cast

import modal.exception as vendor
from grpclib.exceptions import StreamTerminatedError
from modal_proto import api_pb2

from agenthost.adapter.calls import ErrorRow
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.modal.workarounds import THROTTLED

_LOGIN = (
    "Modal refused the credential: check token_id and token_secret, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
)
_BUILDER = (
    "the image builder of this Modal workspace does not have this Python: give "
    "ModalProvider(python='3.12'), or set the workspace's image builder to 2025.06"
)
_FAILED = "Modal failed"
_UNREACHED = "Modal could not be reached, or did not answer in time"


def _stated(error: Any) -> float | None:
    # The public attribute of the details warns of itself.
    attributes = cast("dict[str, Any]", vars(error))
    for detail in attributes.get("_grpc_details") or ():
        if isinstance(detail, api_pb2.RPCRetryPolicy):
            return float(detail.retry_after_secs)
    return None


# A ConflictError is an InvalidError.
ROWS = (
    ErrorRow(vendor.AlreadyExistsError, NameTakenError, "the name is taken at Modal"),
    ErrorRow(vendor.ConflictError, ProviderError, "Modal cannot do this in the present state"),
    ErrorRow(vendor.InvalidError, ConfigError, _BUILDER, contains="python version"),
    ErrorRow(vendor.InvalidError, ConfigError, "Modal does not accept this"),
    ErrorRow(vendor.NotFoundError, SandboxNotFoundError, "Modal does not have this"),
    ErrorRow(vendor.AuthError, ProviderError, _LOGIN),
    ErrorRow(vendor.PermissionDeniedError, ProviderError, "Modal does not allow this"),
    ErrorRow(vendor.ResourceExhaustedError, ProviderBusyError, THROTTLED, after=_stated),
    ErrorRow(vendor.UnimplementedError, UnsupportedError, "Modal does not do this"),
    ErrorRow(vendor.InternalError, ProviderError, _FAILED, "unknown"),
    ErrorRow(vendor.ServiceError, ProviderError, _FAILED, "unknown"),
    ErrorRow(vendor.ConnectionError, ProviderError, _UNREACHED, "unknown"),
    ErrorRow(vendor.TimeoutError, ProviderError, _UNREACHED, "unknown"),
    ErrorRow(vendor.ClientClosed, ProviderError, "the client is closed"),
    ErrorRow(vendor.Error, ProviderError, "Modal refused this"),
    ErrorRow(StreamTerminatedError, ProviderError, _UNREACHED, "unknown"),
    ErrorRow(OSError, ProviderError, _UNREACHED, "unknown"),
)

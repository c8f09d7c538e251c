"""Modal's errors as ours: one table."""

from __future__ import annotations

from collections.abc import Callable

import modal.exception as theirs
from grpclib.exceptions import StreamTerminatedError
from modal_proto import api_pb2

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)


class ModalError(ProviderError):
    """Modal refused, failed or did not answer.

    Attributes:
        may_have_happened: Whether it is open if what was asked for was done.
    """

    may_have_happened = False


class ModalUnclearError(ModalError):
    """Nobody knows if it was done: the answer was lost, or did not come in time."""

    may_have_happened = True


class ModalLateError(ModalUnclearError):
    """Our own time was over, and Modal's client was stopped: it may have been told to wait."""


class ModalThrottledError(ModalError):
    """Modal limits how much is asked for at once. Nothing was done.

    Attributes:
        says_when: Whether Modal said after how long it may be asked again.
    """

    says_when = False


THROTTLED = "; Modal limits how much is asked for at once"
_LOGIN = "; check token_id and token_secret, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"

# Modal's class, ours, what is added to its words. The first row that fits counts: a ConflictError is an
# InvalidError.
TABLE: tuple[tuple[type[Exception], Callable[[str], AgentHostError], str], ...] = (
    (theirs.AlreadyExistsError, ConfigError, ""),
    (theirs.ConflictError, ModalError, ""),
    (theirs.InvalidError, ConfigError, ""),
    (theirs.NotFoundError, SandboxNotFoundError, ""),
    (theirs.AuthError, ModalError, _LOGIN),
    (theirs.PermissionDeniedError, ModalError, ""),
    (theirs.ResourceExhaustedError, ModalThrottledError, THROTTLED),
    (theirs.UnimplementedError, UnsupportedError, ""),
    (theirs.InternalError, ModalUnclearError, ""),
    (theirs.ServiceError, ModalUnclearError, ""),
    (theirs.ConnectionError, ModalUnclearError, ""),
    (theirs.TimeoutError, ModalUnclearError, ""),
    (theirs.ClientClosed, ModalError, ""),
    (theirs.Error, ModalError, ""),
    # Where warnings are errors, Modal's client trips over its own while it looks at another error.
    (theirs.DeprecationError, ModalUnclearError, ""),
    (StreamTerminatedError, ModalUnclearError, ""),
    (OSError, ModalUnclearError, ""),
)
VENDOR_ERRORS: tuple[type[Exception], ...] = tuple(row[0] for row in TABLE)


def translate(error: Exception, doing: str, *, hide: str = "") -> AgentHostError:
    """Return our error for one of Modal's.

    Args:
        error: One of VENDOR_ERRORS.
        doing: What was to be done, as it follows ``could not``.
        hide: A secret that must not be in the text.
    """
    said = str(error).strip() or type(error).__name__
    if hide:
        said = said.replace(hide, "***")
    for theirs_, ours, added in TABLE:
        if isinstance(error, theirs_):
            made = ours(f"Modal could not {doing}: {said}{added}")
            if isinstance(made, ModalThrottledError):
                # Its public attribute warns of itself.
                details = vars(error).get("_grpc_details") or ()
                made.says_when = any(isinstance(one, api_pb2.RPCRetryPolicy) for one in details)
            return made
    raise AssertionError(f"{type(error).__name__} is not in the table")

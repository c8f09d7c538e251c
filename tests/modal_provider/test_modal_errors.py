"""Modal's errors as ours, row by row."""

from __future__ import annotations

import modal.exception as theirs
import pytest
from grpclib.exceptions import StreamTerminatedError

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.modal.errors import (
    TABLE,
    VENDOR_ERRORS,
    ModalError,
    ModalThrottledError,
    ModalUnclearError,
    translate,
)

ROWS: list[tuple[Exception, type[AgentHostError], bool]] = [
    (theirs.AlreadyExistsError("taken"), ConfigError, False),
    (theirs.ConflictError("finished"), ModalError, False),
    (theirs.InvalidError("no sense"), ConfigError, False),
    (theirs.NotFoundError("none"), SandboxNotFoundError, False),
    (theirs.AuthError("who"), ModalError, False),
    (theirs.PermissionDeniedError("not you"), ModalError, False),
    (theirs.ResourceExhaustedError("too much"), ModalThrottledError, False),
    (theirs.UnimplementedError("what"), UnsupportedError, False),
    (theirs.InternalError("broken"), ModalUnclearError, True),
    (theirs.ServiceError("away"), ModalUnclearError, True),
    (theirs.ConnectionError("unreachable"), ModalUnclearError, True),
    (theirs.SandboxTimeoutError("over"), ModalUnclearError, True),
    (theirs.ExecTimeoutError("over"), ModalUnclearError, True),
    (theirs.ClientClosed("closed"), ModalError, False),
    (theirs.SandboxTerminatedError("ended"), ModalError, False),
    (theirs.DataLossError("lost"), ModalError, False),
    (theirs.ImageBuildError("step 3 failed", "im-1"), ModalError, False),
    (theirs.DeprecationError("will stop"), ModalUnclearError, True),
    (StreamTerminatedError("connection lost"), ModalUnclearError, True),
    (ConnectionResetError("reset"), ModalUnclearError, True),
]


@pytest.mark.parametrize(("error", "ours", "unclear"), ROWS, ids=lambda one: getattr(one, "__name__", None))
def test_each_error_of_modals_is_one_of_ours_with_its_words(
    error: Exception, ours: type[AgentHostError], unclear: bool
) -> None:
    made = translate(error, "make a sandbox")
    assert type(made) is ours
    assert getattr(made, "may_have_happened", False) is unclear
    assert str(made).startswith(f"Modal could not make a sandbox: {error}")


def test_every_row_of_the_table_is_tried() -> None:
    first = [next(row[0] for row in TABLE if isinstance(error, row[0])) for error, _, _ in ROWS]
    assert set(first) == set(VENDOR_ERRORS)


def test_what_failed_at_the_provider_is_a_provider_error() -> None:
    assert issubclass(ModalError, ProviderError)


def test_a_refused_credential_names_where_it_comes_from() -> None:
    made = translate(theirs.AuthError("no"), "look")
    assert "token_id" in str(made)
    assert "MODAL_TOKEN_SECRET" in str(made)


def test_a_secret_in_modals_words_is_not_in_ours() -> None:
    made = translate(theirs.AuthError("token as-secret is not valid"), "look", hide="as-secret")
    assert "as-secret" not in str(made)

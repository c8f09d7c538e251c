"""What Modal's errors mean, row by row."""

from __future__ import annotations

import modal.exception as vendor
import pytest
from grpclib.exceptions import StreamTerminatedError

from agenthost.adapter.calls import Calls
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.modal.errors import ROWS

REFUSED, UNKNOWN = "refused", "unknown"
CASES: list[tuple[Exception, type[AgentHostError], str]] = [
    (vendor.AlreadyExistsError("taken"), NameTakenError, ""),
    (vendor.ConflictError("finished"), ProviderError, REFUSED),
    (vendor.InvalidError("Unsupported Python version '3.13'"), ConfigError, ""),
    (vendor.InvalidError("no sense"), ConfigError, ""),
    (vendor.NotFoundError("none"), SandboxNotFoundError, ""),
    (vendor.AuthError("who"), ProviderError, REFUSED),
    (vendor.PermissionDeniedError("not you"), ProviderError, REFUSED),
    (vendor.ResourceExhaustedError("too much"), ProviderBusyError, REFUSED),
    (vendor.UnimplementedError("what"), UnsupportedError, ""),
    (vendor.InternalError("broken"), ProviderError, UNKNOWN),
    (vendor.ServiceError("away"), ProviderError, UNKNOWN),
    (vendor.ConnectionError("unreachable"), ProviderError, UNKNOWN),
    (vendor.SandboxTimeoutError("over"), ProviderError, UNKNOWN),
    (vendor.ExecTimeoutError("over"), ProviderError, UNKNOWN),
    (vendor.ClientClosed("closed"), ProviderError, REFUSED),
    (vendor.SandboxTerminatedError("ended"), ProviderError, REFUSED),
    (vendor.DataLossError("lost"), ProviderError, REFUSED),
    (vendor.ImageBuildError("step 3 failed", "im-1"), ProviderError, REFUSED),
    # Where warnings are errors, Modal's client trips over its own while it looks at another error.
    (vendor.DeprecationError("will stop"), ProviderError, UNKNOWN),
    (StreamTerminatedError("connection lost"), ProviderError, UNKNOWN),
    (ConnectionResetError("reset"), ProviderError, UNKNOWN),
]


@pytest.fixture
def calls() -> Calls:
    return Calls("Modal", lambda: ROWS, secrets=("as-secret",))


@pytest.mark.parametrize(
    ("error", "raises", "outcome"), CASES, ids=lambda one: getattr(one, "__name__", None)
)
def test_each_error_of_modals_has_a_meaning_beside_its_text(
    calls: Calls, error: Exception, raises: type[AgentHostError], outcome: str
) -> None:
    made = calls.translate(error, "making a sandbox")
    assert type(made) is raises
    assert getattr(made, "outcome", "") == outcome
    assert str(made).startswith("making a sandbox: ")
    assert str(made).endswith(f"({error})")


def test_every_row_of_the_table_is_tried() -> None:
    first = {id(next(row for row in ROWS if row.fits(error))) for error, _, _ in CASES if not _unknown(error)}
    assert first == {id(row) for row in ROWS}


def _unknown(error: Exception) -> bool:
    return isinstance(error, vendor.DeprecationError)


def test_a_refused_credential_names_where_it_comes_from(calls: Calls) -> None:
    made = calls.translate(vendor.AuthError("no"), "looking")
    assert "token_id" in str(made)
    assert "MODAL_TOKEN_SECRET" in str(made)


def test_an_old_image_builder_is_named_with_what_to_do(calls: Calls) -> None:
    made = calls.translate(vendor.InvalidError("Unsupported Python version '3.13'"), "building")
    assert "python='3.12'" in str(made)


def test_a_secret_in_modals_text_is_not_in_the_error(calls: Calls) -> None:
    made = calls.translate(vendor.AuthError("token as-secret is not valid"), "looking")
    assert "as-secret" not in str(made)

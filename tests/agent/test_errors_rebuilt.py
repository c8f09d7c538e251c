"""An exception from inside is the same exception outside."""

from __future__ import annotations

from typing import Any

import claude_agent_sdk
import pytest

from agenthost.agent.errors import rebuild, rebuild_refusal
from agenthost.errors import AgentError, IncompleteTurnError, UnsupportedError
from agenthost.runner.faults import Refusal, describe, describe_stream_end, make_fault
from agenthost.wire.codec import Codec, public_classes

CODEC = Codec(public_classes(claude_agent_sdk))


def across(fault: dict[str, Any]) -> Exception:
    return rebuild(CODEC.loads(CODEC.dumps(fault)), claude_agent_sdk, CODEC)


def test_a_process_error_keeps_its_class_exit_code_and_stderr() -> None:
    inside = claude_agent_sdk.ProcessError("x", exit_code=137, stderr="Check stderr output for details")

    error = across(describe_stream_end(inside, CODEC, claude_agent_sdk, "the last words"))

    assert type(error) is claude_agent_sdk.ProcessError
    assert (error.exit_code, error.stderr) == (137, "the last words")
    assert "the last words" in str(error)


def test_a_result_error_keeps_its_fields() -> None:
    data: dict[str, Any] = {"subtype": "error_max_turns", "errors": ["too many"], "session_id": "s", "$x": 1}
    inside = claude_agent_sdk.ResultError("too many", data=data, exit_code=1)

    error = across(describe_stream_end(inside, CODEC, claude_agent_sdk, ""))

    assert type(error) is claude_agent_sdk.ResultError
    assert isinstance(error, claude_agent_sdk.ProcessError)
    assert (error.subtype, error.errors, error.session_id) == ("error_max_turns", ["too many"], "s")
    assert error.data == data
    assert str(error) == str(inside)


def test_a_decode_error_keeps_its_line() -> None:
    inside = claude_agent_sdk.CLIJSONDecodeError("{broken", ValueError("why"))

    error = across(describe(inside, CODEC))

    assert type(error) is claude_agent_sdk.CLIJSONDecodeError
    assert error.line == "{broken"
    assert str(error.original_error) == "why"


@pytest.mark.parametrize(
    "inside",
    [claude_agent_sdk.CLINotFoundError("no claude", "/x"), claude_agent_sdk.CLIConnectionError("not ready")],
)
def test_connection_errors_keep_their_class_and_text(inside: Exception) -> None:
    error = across(describe(inside, CODEC))

    assert type(error) is type(inside)
    assert str(error) == str(inside)


def test_a_class_that_is_not_exported_or_not_known_becomes_its_nearest_base() -> None:
    class ShinyError(claude_agent_sdk.CLIConnectionError):
        pass

    error = across(describe(ShinyError("new"), CODEC))

    assert type(error) is claude_agent_sdk.CLIConnectionError
    assert str(error) == "new"


def test_our_own_errors_keep_their_class() -> None:
    assert type(across(make_fault("IncompleteTurnError", "cut", exit_code=0))) is IncompleteTurnError
    assert type(across(describe(Refusal("UnsupportedError", "no")))) is UnsupportedError


def test_a_wrong_argument_stays_a_type_error_and_a_refused_control_request_is_an_agent_error() -> None:
    assert (
        type(rebuild_refusal(describe(TypeError("unexpected keyword")), claude_agent_sdk, CODEC)) is TypeError
    )
    assert type(across(describe(TypeError("of the SDK's own reader")))) is AgentError
    error = across(describe(Exception("Control request timeout: interrupt")))
    assert type(error) is AgentError
    assert str(error) == "Control request timeout: interrupt"


def test_no_name_from_inside_makes_another_kind_of_exception() -> None:
    for name in ("SystemExit", "KeyboardInterrupt", "__import__", "Transport", "os", ""):
        assert type(across({"type": name, "bases": ["object", "print"], "message": "m"})) is AgentError

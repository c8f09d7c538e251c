"""Exceptions as data, from which the host makes the SDK's own exceptions again."""

from __future__ import annotations

from typing import Any, cast

from agenthost.wire.codec import Codec, CodecError

Fault = dict[str, Any]

_KILLED = (-9, 137)  # exit codes of SIGKILL
_LINE_LIMIT = 4096
# Attributes of the SDK's exceptions that users read.
_ATTRIBUTES = (
    "exit_code",
    "subtype",
    "errors",
    "result",
    "api_error_status",
    "terminal_reason",
    "session_id",
    "data",
)
# Fields of a ResultMessage that the CLI calls otherwise.
_CLI_NAMES = {"model_usage": "modelUsage"}


class Refusal(Exception):
    """The agent cannot start or go on, for a reason that is the runner's own to tell.

    Attributes:
        type_name: The class of agenthost.errors that the host raises.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(message)
        self.type_name = type_name


def make_fault(type_name: str, message: str, **attributes: Any) -> Fault:
    """Return a fault of one of agenthost's own classes."""
    return {"type": type_name, "bases": [], "message": message, **attributes}


def describe(error: BaseException, codec: Codec | None = None) -> Fault:
    """Return an exception as data."""
    if isinstance(error, Refusal):
        return make_fault(error.type_name, str(error))
    names = [c.__name__ for c in type(error).__mro__ if c not in (object, BaseException)]
    fault: Fault = {"type": names[0] if names else "Exception", "bases": names[1:], "message": str(error)}
    if codec is not None:
        for name in _ATTRIBUTES:
            if hasattr(error, name):
                try:
                    fault[name] = codec.encode(getattr(error, name))
                except CodecError as reason:
                    fault[name] = f"<{reason}>"
    line = getattr(error, "line", None)
    if isinstance(line, str):
        fault["line"] = line[:_LINE_LIMIT]
        fault["original_error"] = str(getattr(error, "original_error", ""))
    return fault


def describe_stream_end(
    error: Exception, codec: Codec, sdk: Any, stderr: str, last_message: object = None
) -> Fault:
    """Return why the message stream broke, with what the CLI printed to stderr."""
    if type(error).__name__ == "ProcessError":
        code = getattr(error, "exit_code", None)
        if hasattr(sdk, "ResultError") and getattr(last_message, "is_error", False):
            # An error result, and the exit that always follows it. The SDK says so by this class, unless a
            # message that it does not show came between the two.
            error = _result_error(sdk, last_message, code)
        else:
            # The SDK's text only says that stderr should be checked. Here it is.
            how = ", killed as the kernel does when memory runs out" if code in _KILLED else ""
            error = sdk.ProcessError(f"The claude CLI ended{how}", exit_code=code, stderr=stderr or None)
    elif isinstance(error, (UnicodeDecodeError, RecursionError)) or type(error) is ValueError:
        # The CLI's stdout held what the SDK's reader does not survive: bytes that are no UTF-8, JSON
        # nested too deeply, a number of too many digits. Its class for bad output says so.
        error = sdk.CLIJSONDecodeError(_excerpt(error), error)
    fault = describe(error, codec)
    fault["stderr"] = stderr
    return fault


def _result_error(sdk: Any, result: Any, code: int | None) -> Exception:
    reasons = [*(result.errors or ()), result.result, result.subtype]
    reason = next((text for text in reasons if isinstance(text, str) and text.strip()), "unknown error")
    # What the SDK would have put there is the CLI's own words for the same.
    fields = cast("dict[str, Any]", vars(result))
    said = {_CLI_NAMES.get(name, name): value for name, value in fields.items() if value is not None}
    data: dict[str, Any] = {"type": "result", **said}
    error: Exception = sdk.ResultError(
        f"Claude Code returned an error result: {reason.strip()}", data=data, exit_code=code
    )
    return error


def _excerpt(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        around = error.object[max(0, error.start - 100) : error.end + 100]
        return f"{error}; around it: {around!r}"
    return f"{type(error).__name__}: {error}"

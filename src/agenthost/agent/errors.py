"""What the runner tells of an exception becomes that exception again."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any, cast

from agenthost import errors
from agenthost.wire.codec import Codec
from agenthost.wire.fields import WRONG_SHAPE

# What a method's caller can get wrong; any other builtin comes from inside and means nothing here.
_OF_CALLERS = frozenset({"TypeError", "ValueError"})
_NOT_ATTRIBUTES = frozenset({"type", "bases", "message"})


def rebuild(fault: object, sdk: Any, codec: Codec) -> Exception:
    """Return the exception that a fault describes: the SDK's own class where it is one.

    A class that this version of the SDK lacks becomes its nearest base here. What is neither the SDK's nor
    ours becomes an AgentError, and so does what does not describe an exception at all.
    """
    return _rebuild(fault, sdk, codec, frozenset())


def rebuild_refusal(fault: object, sdk: Any, codec: Codec) -> Exception:
    """Return the exception that a method of the client has raised inside, as ``rebuild`` does.

    A TypeError or ValueError is one here, too: what the method was given. The CLI's refusal of a control
    request is an AgentError.
    """
    return _rebuild(fault, sdk, codec, _OF_CALLERS)


def _rebuild(fault: object, sdk: Any, codec: Codec, allowed: frozenset[str]) -> Exception:
    try:
        return _exception_of(cast("Mapping[str, Any]", fault), sdk, codec, allowed)
    except WRONG_SHAPE as error:
        return errors.AgentError(f"the agent's journal tells of an error that cannot be read: {error!r:.200}")


def _exception_of(fault: Mapping[str, Any], sdk: Any, codec: Codec, allowed: frozenset[str]) -> Exception:
    cls = _find([str(fault.get("type")), *map(str, fault.get("bases", ()))], sdk, allowed)
    # By the text alone: constructors differ, and some of them change the text.
    error = cls.__new__(cls, str(fault.get("message", "")))
    if issubclass(cls, sdk.ProcessError):
        vars(error).update(exit_code=None, stderr=None)
    for name, value in fault.items():
        if name == "original_error":
            vars(error)[name] = ValueError(value)
        elif name not in _NOT_ATTRIBUTES:
            vars(error)[name] = codec.decode(value)
    return error


def _find(names: list[str], sdk: Any, allowed: frozenset[str]) -> type[Exception]:
    own = getattr(errors, names[0], None)
    if isinstance(own, type) and issubclass(own, errors.AgentHostError):
        return own
    for name in names:
        found = getattr(sdk, name, None)
        if isinstance(found, type) and issubclass(found, sdk.ClaudeSDKError):
            return cast("type[Exception]", found)
    if names[0] in allowed:
        return cast("type[Exception]", getattr(builtins, names[0]))
    return errors.AgentError

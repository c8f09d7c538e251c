"""What the runner tells of an exception becomes that exception again."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any, cast

from agenthost import errors
from agenthost.wire.codec import Codec

# What a method's caller can get wrong; any other builtin comes from inside and means nothing here.
_BUILTINS = frozenset({"TypeError", "ValueError", "KeyError"})
_NOT_ATTRIBUTES = frozenset({"type", "bases", "message"})


def rebuild(fault: Mapping[str, Any], sdk: Any, codec: Codec) -> Exception:
    """Return the exception that a fault describes: the SDK's own class where it is one.

    A class that this version of the SDK lacks becomes its nearest base here. What is neither the SDK's nor
    ours becomes an AgentError: the CLI refused a control request, or did not answer it.
    """
    cls = _find([str(fault.get("type")), *map(str, fault.get("bases", ()))], sdk)
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


def _find(names: list[str], sdk: Any) -> type[Exception]:
    own = getattr(errors, names[0], None)
    if isinstance(own, type) and issubclass(own, errors.AgentHostError):
        return own
    for name in names:
        found = getattr(sdk, name, None)
        if isinstance(found, type) and issubclass(found, sdk.ClaudeSDKError):
            return cast("type[Exception]", found)
    if names[0] in _BUILTINS:
        return cast("type[Exception]", getattr(builtins, names[0]))
    return errors.AgentError

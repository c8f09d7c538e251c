"""What the installed SDK offers to its user, read from the SDK itself."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, PermissionMode
from claude_agent_sdk.types import HookEvent, HookMatcher


def inventory() -> frozenset[str]:
    """Return the name of everything that must be compared, or must have a reason why it is not.

    ``option:max_turns``, ``method:interrupt``, ``hook:Stop``, ``matcher:timeout``, ``mode:plan``,
    ``class:ResultMessage`` (every exported dataclass), ``error:ProcessError``, ``function:query``.
    """
    found = {f"option:{field.name}" for field in dataclasses.fields(ClaudeAgentOptions)}
    found |= {f"matcher:{field.name}" for field in dataclasses.fields(HookMatcher)}
    found |= {f"method:{name}" for name in vars(ClaudeSDKClient) if not name.startswith("_")}
    found |= {f"hook:{name}" for name in _literals(HookEvent)}
    found |= {f"mode:{name}" for name in _literals(PermissionMode)}
    found |= {f"{kind}:{name}" for kind, name in _exported()}
    return frozenset(found)


def _exported() -> Iterator[tuple[str, str]]:
    for name in claude_agent_sdk.__all__:
        value: Any = getattr(claude_agent_sdk, name)
        if inspect.isclass(value):
            if issubclass(value, Warning):
                yield "warning", name
            elif issubclass(value, Exception):
                yield "error", name
            elif dataclasses.is_dataclass(value):
                yield "class", name
        elif inspect.isfunction(value):
            yield "function", name


def _literals(form: Any) -> Iterator[str]:
    """Yield the values of a Literal, or of a union of them."""
    if get_origin(form) in (Union, types.UnionType):
        for part in get_args(form):
            yield from _literals(part)
    elif get_origin(form) is Literal:
        yield from get_args(form)
    else:
        raise TypeError(f"{form!r} is no Literal: the SDK says its events or modes in another way now")

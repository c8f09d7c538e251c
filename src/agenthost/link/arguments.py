"""Checks of what the methods of a sandbox are given, before anything is sent.

A value of another type is a TypeError, and a text that no program can be given is a ValueError; each names
the argument. The values of an environment and what is written are never shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from agenthost.spec import check_text

_BYTES = (bytes, bytearray, memoryview)


def start_params(
    unique: str,
    argv: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str] | None,
    user: str | None,
) -> dict[str, Any]:
    """Return the parameters of the call that starts a program.

    Raises:
        TypeError: An argument is of another type than its annotation.
        ValueError: ``argv`` is not a list with a program, or no program can be given a text.
    """
    params: dict[str, Any] = {"id": unique, "argv": _argv(argv)}
    if cwd is not None:
        params["cwd"] = check_text("cwd", cwd)
    if env is not None and (variables := _variables(env)):
        params["env"] = variables
    if user is not None:
        params["user"] = check_text("user", user)
    return params


def check_bytes(name: str, data: object) -> None:
    """Refuse what is not bytes.

    Raises:
        TypeError: With the argument's name.
    """
    if not isinstance(data, _BYTES):
        hint = f", {name}.encode() for instance" if isinstance(data, str) else ""
        raise TypeError(f"{name} is of type {type(data).__name__}; it must be bytes{hint}")


def check_number(name: str, number: object, *, whole: bool = False) -> None:
    """Refuse what is not a number; a bool is not a number.

    Raises:
        TypeError: With the argument's name.
    """
    if isinstance(number, bool) or not isinstance(number, int if whole else (int, float)):
        wanted = "a whole number" if whole else "a number"
        raise TypeError(f"{name} is of type {type(number).__name__}; it must be {wanted}")


def _argv(argv: object) -> list[str]:
    if isinstance(argv, str | bytes) or not isinstance(argv, Sequence) or not argv:
        raise ValueError("argv is a list of at least one string, never a shell command")
    found = cast("Sequence[object]", argv)
    return [check_text(f"argv[{number}]", text) for number, text in enumerate(found)]


def _variables(env: object) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env is of type {type(env).__name__}; it must map names to values")
    found: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", env).items():
        key = check_text(f"the name env[{name!r}]", name)
        if not key or "=" in key:
            raise ValueError(f"{key!r} cannot be the name of a variable in env: it is empty, or holds a =")
        found[key] = check_text(f"env[{key!r}]", value)
    return found

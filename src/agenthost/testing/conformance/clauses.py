"""Which clause of the contract a check proves, and what a sandbox must have for it."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import anyio

from agenthost.sandbox import Capabilities

C = TypeVar("C", bound=Callable[..., Awaitable[None]])

_NUMBER = re.compile(r"\d+\.\d+\Z")


@dataclass(frozen=True, slots=True)
class Clause:
    """The contract's clause that a check proves.

    Attributes:
        number: As in docs/contract.md.
        needs: What the sandbox must have; without it the check is skipped. See ``missing``.
    """

    number: str
    needs: tuple[str, ...] = ()


def clause(number: str, *, needs: str | tuple[str, ...] = ()) -> Callable[[C], C]:
    """Say which clause a check proves. A check that is not over within the kit's ``patience`` fails."""
    if not _NUMBER.match(number):
        raise ValueError(f"{number!r} is no number of a clause")
    told = Clause(number, (needs,) if isinstance(needs, str) else needs)

    def wrap(check: C) -> C:
        @functools.wraps(check)
        async def bounded(kit: Any, *args: Any, **kwargs: Any) -> None:
            try:
                with anyio.fail_after(kit.patience):
                    await check(kit, *args, **kwargs)
            except BaseException:
                kit.has_failed = True  # for fixtures, which clear up what it has left
                raise

        vars(bounded)["clause"] = told
        return cast("C", bounded)

    return wrap


def clause_of(check: object) -> Clause | None:
    """Return what ``clause`` said of a check."""
    found = getattr(check, "clause", None)
    return found if isinstance(found, Clause) else None


def checks_of(kit: type) -> Iterator[tuple[str, Clause]]:
    """Yield the name and the clause of every check of a kit."""
    for name in dir(kit):
        found = clause_of(getattr(kit, name)) if name.startswith("test_") else None
        if found is not None:
            yield name, found


def missing(need: str, capabilities: Capabilities) -> str | None:
    """Return what a sandbox lacks of a need, None if it has it.

    Needs are ``isolation``, ``network:MODE``, ``limit:NAME`` and the names of the capabilities that are on or
    off: ``lease``, ``mounts`` ...
    """
    kind, _, name = need.partition(":")
    if kind == "network":
        return None if name in capabilities.networks else f"no network mode {name!r}"
    if kind == "limit":
        return None if name in capabilities.limits else f"no limit {name!r}"
    if kind == "isolation":
        return "no isolation" if capabilities.isolation == "none" else None
    return None if getattr(capabilities, need) else f"no {need}"

"""What the tests of every adapter know about one of them: a row of their table."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import pytest

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.emulator import Emulator
from agenthost.testing.emulators.base.faults import Fault


class Gate(Protocol):
    """Calls that wait.

    Attributes:
        struck: Set when the first of them has come.
    """

    struck: anyio.Event

    def release(self) -> None:
        """Let them go on."""
        ...


class World(Protocol):
    """What stands behind an adapter: an emulator, a container engine or this machine.

    Attributes:
        options: What the provider is opened with to use it.
        calls: Every call that came. Empty where an adapter calls nobody.
        unknown: The calls among these that it does not know.
    """

    @property
    def options(self) -> Mapping[str, Any]: ...

    @property
    def calls(self) -> Sequence[str]: ...

    @property
    def unknown(self) -> Sequence[str]: ...

    async def running(self) -> list[str]:
        """Return the ids of all sandboxes that have not ended."""
        ...

    def lose_answer(self) -> None:
        """Do what the next create asks for, and lose the answer."""
        ...

    def drop(self, times: float) -> None:
        """Cut creates off before anything is done."""
        ...

    def hold(self, *, then_drop: bool = False) -> Gate:
        """Have the next create wait, and cut it off afterwards or not."""
        ...

    def clear(self) -> None:
        """Let everything go well again."""
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """An error of the vendor's client, and what it is to become.

    Attributes:
        error: As the vendor's client raises it.
        raises: The class of ours.
        outcome: See ProviderError; empty for a class that has none.
        words: A part of the message.
    """

    error: Exception
    raises: type[AgentHostError]
    outcome: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One adapter.

    Attributes:
        name: The provider's name.
        make: Makes the provider. It is not connected.
        serve: Runs what stands behind the adapter, for as long as the block is open.
        needs: Fixtures whose values ``serve`` gets, by name.
        marks: For each of its tests.
        asyncio_only: Whether the vendor's client works on asyncio alone.
        package: The vendor's package; None where there is none.
        former: The package's former name, which is accepted, too; None where it has none.
        credentials: By parameter, the variable of the environment that holds it otherwise.
        secrets: The parameters among these that no message may hold.
        wrong: A credential that has the right form, and that ``serve`` does not know.
        address: Parameters that take the URL of the vendor's API.
        errors: Returns the table of errors and an example for each row. None: the adapter has no such table.
        create: The call that makes a sandbox; None where making one is no call to anybody.
        tries: How often the vendor's client makes this call when no answer comes, all by itself.
        hurry: Shortens what a provider waits for.
        disown: Removes from a sandbox at the vendor what says that agenthost made it.
        bakes: Options that each make another image of the same recipe. None: images have no name before
            they are made.
        longest: Seconds of the longest lifetime. None: there is no longest one.
    """

    name: str
    make: Callable[..., GuestProvider]
    serve: Callable[[Mapping[str, Any]], AbstractAsyncContextManager[World]]
    needs: Sequence[str] = ()
    marks: Sequence[pytest.MarkDecorator] = ()
    asyncio_only: bool = False
    package: str | None = None
    former: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Sequence[str] = ()
    wrong: Mapping[str, str] = field(default_factory=dict[str, str])
    address: Sequence[str] = ()
    errors: Callable[[], tuple[Sequence[Any], Sequence[Example]]] | None = None
    create: str | None = None
    tries: int = 1
    hurry: Callable[[GuestProvider, pytest.MonkeyPatch], None] = lambda _provider, _patch: None
    disown: Callable[[World, str], None] | None = None
    bakes: Mapping[str, Any] | None = None
    longest: float | None = None


class EmulatedWorld:
    """An emulator of this repository."""

    def __init__(self, emulator: Emulator[Any], create: str) -> None:
        self.emulator = emulator
        self.options = emulator.options
        self._create = create
        self._held: list[Fault] = []

    @property
    def calls(self) -> Sequence[str]:
        """See World."""
        return self.emulator.calls

    @property
    def unknown(self) -> Sequence[str]:
        """See World."""
        return self.emulator.unknown

    async def running(self) -> list[str]:
        """See World."""
        return self.emulator.running()

    def lose_answer(self) -> None:
        """See World."""
        self.emulator.faults.lose_answer(self._create)

    def drop(self, times: float = math.inf) -> None:
        """See World."""
        self.emulator.faults.add(Fault(self._create, drop=True, times=times))

    def hold(self, *, then_drop: bool = False) -> Gate:
        """See World."""
        self._held.append(self.emulator.faults.add(Fault(self._create, hold=True, drop=then_drop)))
        return self._held[-1]

    def clear(self) -> None:
        """See World."""
        self.emulator.faults.clear()
        for fault in self._held:
            fault.release()


def every(
    rows: Iterable[Row],
    fits: Callable[[Row], object] = lambda _: True,
    *,
    loops: bool = True,
    normal: Collection[str] | None = None,
) -> pytest.MarkDecorator:
    """Return a mark that runs a test for every row that fits, on each event loop that the adapter works on.

    Args:
        rows: The table.
        fits: Whether the test is about an adapter.
        loops: False for a test that is not async, or that runs a loop of its own.
        normal: Names of the adapters that the normal run tries, the others wait for ``--full``; None is all.
    """
    found = [row for row in rows if fits(row)]

    def marks(row: Row) -> list[pytest.MarkDecorator]:
        return [*row.marks, *([] if normal is None or row.name in normal else [pytest.mark.full])]

    if not loops:
        return pytest.mark.parametrize(
            "row", [pytest.param(row, id=row.name, marks=marks(row)) for row in found], indirect=True
        )
    pairs = [(row, loop) for row in found for loop in ("asyncio", "trio")]
    return pytest.mark.parametrize(
        ("row", "anyio_backend"),
        [
            pytest.param(row, loop, id=f"{row.name}-{loop}", marks=marks(row))
            for row, loop in pairs
            if loop == "asyncio" or not row.asyncio_only
        ],
        indirect=True,
    )

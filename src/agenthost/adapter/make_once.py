"""Make one thing at a vendor: once, and nothing left when it fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio

from agenthost.errors import AgentHostError, NameTakenError, ProviderError

T = TypeVar("T")

_log = logging.getLogger("agenthost.adapter")

MAKING = 75.0  # seconds: one bounded call (60 s), and looking for what a lost answer may have made
CLEANUP = 15.0  # seconds
LOOKS = (0.0, 0.5, 1.0, 2.0, 4.0)  # seconds; lists of vendors lag behind by seconds


async def make_once(
    what: str,
    *,
    create: Callable[[], Awaitable[T]],
    find: Callable[[], Awaitable[T | None]],
    end: Callable[[T], Awaitable[object]],
    finish: Callable[[T], Awaitable[object]] | None = None,
    within: float = MAKING,
    cleanup: float = CLEANUP,
    looks: Sequence[float] = LOOKS,
) -> T:
    """Return what ``create`` makes. It is called once.

    Where the outcome of ``create`` is unknown, ``find`` decides: what it finds is taken. When this raises,
    what was made is ended; a warning in the log names what could not be ended.

    A cancellation waits for the answer, ``cleanup`` seconds at most: a request that is cut off may be carried
    out later than anything looks for it. Ending what was made takes ``cleanup`` seconds at most, too.

    Args:
        what: What is made, for messages: ``sandbox web-1``.
        create: Makes it. Raises ProviderError with the outcome ``unknown`` where it may have been made.
        find: Returns it by what only this request can have made, a name AND a nonce. None: not there (yet).
        end: Ends it.
        finish: Completes it, a shorter lease for instance. What cannot be completed is ended.
        within: Seconds for ``create``, ``find`` and ``finish`` together.
        cleanup: Seconds, see above.
        looks: Seconds before each call of ``find``, which vendors answer late.

    Raises:
        NameTakenError: Its name belongs to another.
        ProviderError: It was not made, or not in time.
    """
    making = _Making(create, find, finish, looks)
    try:
        async with anyio.create_task_group() as tasks:
            making.scope.deadline = anyio.current_time() + within
            tasks.start_soon(making.run)
            try:
                await making.done.wait()
            finally:
                making.scope.deadline = min(making.scope.deadline, anyio.current_time() + cleanup)
        if making.error is not None:
            raise making.error
        if not making.is_whole:
            raise ProviderError(f"making {what}: no answer within {within:g} s", outcome="unknown")
        return making.made[0]
    except BaseException as exc:
        if making.made or not isinstance(exc, AgentHostError) or _is_unknown(exc):
            with anyio.move_on_after(cleanup, shield=True) as scope:
                await _end(what, making.made, find, end, looks)
            if scope.cancelled_caught:
                _log.warning(
                    "%s may be left until its lifetime is over: no answer within %g s", what, cleanup
                )
        raise


class _Making(Generic[T]):
    """The calls that make one thing, in a task that a cancellation of the caller does not reach.

    Attributes:
        made: The thing, once there is one.
        is_whole: Whether ``finish`` has succeeded.
        error: What one of the calls raised.
    """

    def __init__(
        self,
        create: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T | None]],
        finish: Callable[[T], Awaitable[object]] | None,
        looks: Sequence[float],
    ) -> None:
        self.made: list[T] = []
        self.is_whole = False
        self.error: Exception | None = None
        self.scope = anyio.CancelScope(shield=True)
        self.done = anyio.Event()
        self._create, self._find, self._finish, self._looks = create, find, finish, looks

    async def run(self) -> None:
        """Make it. Raises nothing but a cancellation."""
        try:
            with self.scope:
                self.made.append(await _create_or_find(self._create, self._find, self._looks))
                if self._finish is not None:
                    await self._finish(self.made[0])
                self.is_whole = True
        except Exception as exc:  # noqa: BLE001 - raised by make_once, in the task of the caller
            self.error = exc
        finally:
            self.done.set()


async def _create_or_find(
    create: Callable[[], Awaitable[T]], find: Callable[[], Awaitable[T | None]], looks: Sequence[float]
) -> T:
    try:
        return await create()
    except AgentHostError as exc:
        # A name that is taken may be taken by this very request, which the vendor's client has sent twice.
        is_taken = isinstance(exc, NameTakenError)
        if not is_taken and not _is_unknown(exc):
            raise
        try:
            found = await _look(find, looks[:1] if is_taken else looks)
        except AgentHostError as again:
            if is_taken:  # perhaps by this very request
                raise ProviderError(f"{exc}, and by which sandbox is not known", outcome="unknown") from again
            raise exc from again  # it may still be there
        if found is None:
            raise
        return found


async def _look(find: Callable[[], Awaitable[T | None]], looks: Sequence[float]) -> T | None:
    failure: ProviderError | None = None
    for pause in looks:
        await anyio.sleep(pause)
        try:
            found, failure = await find(), None
        except ProviderError as exc:  # the vendor may be starting anew
            found, failure = None, exc
        if found is not None:
            return found
    if failure is not None:
        raise failure
    return None


async def _end(
    what: str,
    made: list[T],
    find: Callable[[], Awaitable[T | None]],
    end: Callable[[T], Awaitable[object]],
    looks: Sequence[float],
) -> None:
    try:
        found = made[0] if made else await _look(find, looks)
        if found is not None:
            await end(found)
    except AgentHostError as error:
        _log.warning("%s may be left until its lifetime is over: %s", what, error)


def _is_unknown(error: AgentHostError) -> bool:
    return isinstance(error, ProviderError) and error.outcome == "unknown"

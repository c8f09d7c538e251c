"""The guest's answers to calls: waiting for one, and taking apart what came. A guest is not trusted.

Whatever shape an answer has, it becomes the value that was asked for or an error of agenthost's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import anyio

from agenthost.errors import (
    AccessDeniedError,
    BootstrapError,
    ConfigError,
    GuestLostError,
    LinkError,
    OutcomeUnknownError,
    SupersededError,
    UnsupportedError,
)
from agenthost.link.flows import Outflow
from agenthost.wire.fields import WRONG_SHAPE
from agenthost.wire.host import HostLink

CALL_SECONDS = 60.0  # in which a call is answered while the link is up
_LONGEST = 4000  # characters of a message or a path


class Waiter:
    """Waits for one answer.

    Attributes:
        event: Set when the answer has come, or none will.
        ok: Whether the call was done.
        value: What the guest answered, or an exception to be raised.
        call: Number of the call on the link, which changes when it is renewed.
        body: The stream of its parameters, where they are large.
    """

    def __init__(self, call: int = 0, body: Outflow | None = None) -> None:
        self.event = anyio.Event()
        self.ok = False
        self.value: Any = None
        self.call = call
        self.body = body


class Patience:
    """How long the guest of one link is waited for.

    Args:
        link: The link.
        sandbox: Name of its sandbox, for errors.
        seconds: For which an answer may be missing while the link is up.
    """

    def __init__(self, link: HostLink, sandbox: str, seconds: float) -> None:
        self.seconds = seconds
        self._link = link
        self._sandbox = sandbox
        self._up_since = 0.0

    def link_is_up(self) -> None:
        """Take note that the link carries calls from now on: what was sent before has been sent again."""
        self._up_since = anyio.current_time()

    async def wait(self, event: anyio.Event, what: str) -> None:
        """Wait for the answer to a call. Raises OutcomeUnknownError."""
        await self.bounded(event.wait, lambda: None, what)

    async def bounded(
        self, wait: Callable[[], Awaitable[object]], seen: Callable[[], object], what: str
    ) -> None:
        """Wait for something of the guest. While the link is down, the link's own budget bounds the waiting.

        Args:
            wait: Returns when it has come; it may be cancelled and called again.
            seen: What it returns has changed when the guest has sent some of it.
            what: The name of the call, for errors.

        Raises:
            OutcomeUnknownError: Nothing has come for too long.
        """
        began, before = anyio.current_time(), seen()
        while True:
            now = anyio.current_time()
            left = (max(began, self._up_since) if self._link.flowing else now) + self.seconds - now
            if left <= 0 and (now_seen := seen()) != before:
                began, before = now, now_seen
                continue
            if left <= 0:
                raise OutcomeUnknownError(
                    f"the guest of sandbox {self._sandbox} did not answer {what!r} within {self.seconds:g} s "
                    "although the link is up: its program may be stopped. Try again, or end the sandbox"
                )
            with anyio.move_on_after(left) as scope:
                await wait()
            if not scope.cancelled_caught:
                return


@contextmanager
def reading(what: str) -> Generator[None]:
    """Take something from the guest apart.

    Raises:
        LinkError: It has another shape than ``what`` has.
    """
    try:
        yield
    except WRONG_SHAPE as error:
        raise LinkError(
            f"the guest sent {what} that cannot be read ({type(error).__name__}). What runs in the sandbox "
            "may have taken the guest's place: end the sandbox"
        ) from error


def call_error(value: object) -> Exception:
    """Return the exception: the kernel's own error where it was one, else one of agenthost's."""
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    kind, message = fields.get("type"), str(fields.get("message"))[:_LONGEST]
    number, path = fields.get("errno"), fields.get("path")
    if kind == "OSError" and type(number) is int and -(1 << 31) <= number < 1 << 31:
        return (
            OSError(number, message, path[:_LONGEST]) if isinstance(path, str) else OSError(number, message)
        )
    if kind == "Unsupported":
        return UnsupportedError(message)
    if kind == "Taken":
        return ConfigError(message)
    if kind == "AccessDenied":
        return AccessDeniedError(message)
    if kind == "Superseded":
        return SupersededError(message)
    if kind == "Bootstrap":
        return BootstrapError(message)
    if kind == "NoProcess":
        return GuestLostError(message)
    return LinkError(f"the guest refused a call: {message}")

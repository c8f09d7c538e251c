"""The user's session store: appends in order, loads behind them."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from typing import Any, cast

import anyio

from agenthost.agent.user_code import of_user

_log = logging.getLogger("agenthost.agent")

# As in the SDK: so many attempts, with these pauses between them, each of them bounded; what timed out may
# still land and is not tried again.
_PAUSES = (0.2, 0.8)
_SECONDS = 60.0


class Append:
    """A batch on its way into the store. Messages behind it wait until ``done`` is set."""

    __slots__ = ("done", "entries", "error", "key", "seq", "size")

    def __init__(self, seq: int, key: object, entries: list[Any], size: int) -> None:
        self.seq = seq
        self.key = key
        self.entries = entries
        self.size = size
        self.done = anyio.Event()
        self.error: str | None = None

    def finish(self, error: str | None) -> None:
        """It is written, or lost."""
        self.error = error
        self.entries = []
        self.done.set()

    def message(self, sdk: Any) -> Any:
        """Return what the SDK tells of a batch that was lost."""
        key = self.key
        fields = cast("dict[str, Any]", key) if isinstance(key, dict) else {}
        data: dict[str, Any] = {
            "type": "system",
            "subtype": "mirror_error",
            "error": self.error,
            "key": self.key,
            "uuid": str(uuid.uuid4()),
            "session_id": fields.get("session_id", ""),
        }
        return sdk.MirrorErrorMessage(subtype="mirror_error", data=data, key=self.key, error=self.error)


class StoreWriter:
    """Applies appends one after the other. ``run`` must be running."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._waiting: deque[Append] = deque()
        self._news = anyio.Event()

    def append(self, append: Append) -> None:
        """Have a batch written, behind those before it."""
        self._waiting.append(append)
        self._news.set()

    async def settle(self) -> None:
        """Return when everything that was given so far is written, or lost and told."""
        while self._waiting:
            await self._waiting[-1].done.wait()

    async def run(self) -> None:
        """Write until cancelled; what is not written by then is lost, and told to who reads on."""
        try:
            while True:
                while not self._waiting:
                    self._news = anyio.Event()
                    await self._news.wait()
                append = self._waiting[0]
                append.finish(await self._write(append))
                self._waiting.popleft()
        finally:
            if self._waiting:
                _log.error("session store: %d batches were not written in time", len(self._waiting))
            for append in self._waiting:
                append.finish("the agent was left before this was written")
            self._waiting.clear()

    async def _write(self, append: Append) -> str | None:
        """Return None, or why the batch is lost."""
        error: Exception | None = None
        for pause in (0.0, *_PAUSES):
            if pause:
                await anyio.sleep(pause)
            try:
                with anyio.fail_after(_SECONDS):
                    await of_user(self._store.append(append.key, append.entries))
            except TimeoutError as exc:
                error = exc
                break
            except Exception as exc:  # noqa: BLE001 - the store is the user's code; told as the SDK tells it
                error = exc
            else:
                return None
        _log.error("session store: a batch of %d entries is lost: %s", len(append.entries), error)
        return str(error)

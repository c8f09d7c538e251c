"""A file of a sandbox, read by the host: whole within a bound, or piece by piece."""

from __future__ import annotations

import errno
from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Self

from agenthost.errors import FileTooLargeError
from agenthost.link.answers import reading
from agenthost.link.arguments import check_number
from agenthost.link.flows import Inflow
from agenthost.link.pieces import Pieces
from agenthost.link.session import Session
from agenthost.spec import check_text
from agenthost.wire.frames import Data

MAX_BYTES = 64 * 1024 * 1024  # that ``read_file`` returns unless it is asked for more


class RemoteFile:
    """A file of a sandbox, open for reading. Use ``GuestSandbox.open_file``.

    Attributes:
        path: As it was asked for.
        size: In bytes, when it was opened. What is added to it later is not read.
    """

    def __init__(self, session: Session, path: str, size: int, first: bytes, flow: Inflow | None) -> None:
        self.path = path
        self.size = size
        self._session = session
        self._first = first  # all of a small file
        self._flow = flow
        self._left = size  # bytes that were not handed out

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end.

        Raises:
            OSError: EIO when the file became shorter meanwhile.
            OutcomeUnknownError: The guest sends nothing for 60 s, though the link is up.
        """
        data, self._first = self._first, b""
        flow = self._flow
        if not data and flow is not None and self._left:
            await self._session.patience.bounded(flow.wait_readable, lambda: None, "read")
            data = await flow.receive()
        if not data and self._left:
            raise self._shorter()
        data = data[: self._left]  # whatever the guest sends: not more than it has announced
        self._left -= len(data)
        return data

    async def read(self) -> bytes:
        """Return all bytes of a file of which none was read. Raises as ``receive`` does."""
        flow = self._flow
        if flow is None:
            return await self.receive()
        pieces = Pieces()

        def take(data: Data) -> None:
            pieces.append(data[: self._left])
            self._left -= min(len(data), self._left)

        flow.sink = take
        await self._session.patience.bounded(flow.wait_ended, lambda: pieces.size, "read")
        if self._left:
            raise self._shorter()
        return pieces.joined()

    def _shorter(self) -> OSError:
        return OSError(errno.EIO, "the file became shorter while it was read", self.path)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive()
        if not data:
            raise StopAsyncIteration
        return data


@asynccontextmanager
async def open_file(
    session: Session, path: str, *, max_bytes: int | None = None
) -> AsyncGenerator[RemoteFile]:
    """Open a file, of ``max_bytes`` at most. Raises FileTooLargeError, or the kernel's OSError."""
    check_text("path", path)
    params: dict[str, Any] = {"path": path, "stream": f"f/{session.unique()}"}
    if max_bytes is not None:
        check_number("max_bytes", max_bytes, whole=True)
        params["max"] = max_bytes
    flow: Inflow | None = None
    is_open = True
    try:
        answer = await session.call("read", params)
        with reading("an answer to 'read'"):
            first = b64decode(answer["data"], validate=True) if "data" in answer else b""
            size = len(first) if "data" in answer else _natural(answer["size"])
        if max_bytes is not None and size > max_bytes:
            raise FileTooLargeError(errno.EFBIG, _too_large(size, max_bytes), path)
        if "data" in answer:
            is_open = False
        else:
            flow = session.inflow(params["stream"])
        yield RemoteFile(session, path, size, first, flow)
    finally:
        if flow is not None:
            session.close_inflow(flow)
        if is_open:  # perhaps: the call may have been cancelled
            session.post("close", {"stream": params["stream"]})


def _too_large(size: int, bound: int) -> str:
    return f"the file has {size} bytes, above max_bytes={bound}; give a larger max_bytes, or use open_file"


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value

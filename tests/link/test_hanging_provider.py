"""A provider that does not answer is given up after the link's budget, like one that refuses."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import pytest

from agenthost.errors import LinkLostError
from agenthost.link.session import Session
from agenthost.sandbox import Carrier, SandboxInfo

SECONDS = 60.0  # until a test is taken to hang


@dataclass
class Hanging:
    """A Backend one of whose calls never returns."""

    call: str
    ended: list[str] = field(default_factory=list[str])

    async def boot(self) -> None: ...

    async def dial(self) -> Carrier:
        await self._may_hang("dial")
        raise ConnectionRefusedError("nobody listens")

    async def info(self) -> SandboxInfo:
        await self._may_hang("info")
        raise OSError("the provider is away")

    async def terminate(self) -> None: ...

    async def _may_hang(self, call: str) -> None:
        if call == self.call:
            try:
                await anyio.sleep_forever()
            finally:
                self.ended.append(call)


@pytest.mark.parametrize("call", ["dial", "info"])
async def test_a_call_that_never_returns_is_ended_and_the_link_lost(call: str) -> None:
    backend = Hanging(call)
    session = Session(backend, name="far-away", guest_key=bytes(32), budget=0.5)
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            with pytest.raises(LinkLostError, match="far-away could not be reached"):
                await session.wait_ready()
    assert backend.ended
    assert set(backend.ended) == {call}

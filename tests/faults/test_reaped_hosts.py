"""Hosts are killed at any moment of making, using and ending sandboxes: after reap nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from faults import victims
from faults.killed_hosts import kill_hosts, reap_all

import agenthost
from agenthost import open_provider

LIMIT = 600.0
GONE_SECONDS = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The hosts are programs of their own."""
    return "asyncio"


@pytest.mark.parametrize(
    "count", [6, pytest.param(20, marks=pytest.mark.full), pytest.param(60, marks=pytest.mark.deep)]
)
async def test_after_reap_no_sandbox_process_or_file_of_killed_hosts_is_left(
    tmp_path: Path, count: int
) -> None:
    with anyio.fail_after(LIMIT):
        await kill_hosts(count, "local", tmp_path, most=0.5)
        async with open_provider("local") as provider:
            found = await reap_all(provider)
            assert found, "every host had ended before it was killed"
            assert [one for one in found if one.outcome != "reaped"] == []
            assert await agenthost.reap(provider) == []
            assert [info.id async for info in provider.list()] == []
    assert await anyio.to_thread.run_sync(victims.left_after, GONE_SECONDS) == []
    assert os.listdir(os.path.join(os.environ["AGENTHOST_STATE_DIR"], "local")) == []

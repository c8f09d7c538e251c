"""``--live NAME``: the kits against the real service of a provider, for whoever has an account.

    E2B_API_KEY=... scripts/test -n 0 --live e2b tests/live

Only with it is tests/live collected and may a test leave this machine. What is spent is bounded: no sandbox
lives longer than ``LIFETIME``, and none is made once ``--live-minutes`` are over. All have this process as
their owner; at the end what lost its owner is reaped, and a sandbox of this process that is left is ended
and fails the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agenthost import open_provider, reap
from agenthost.adapter.provider import GuestProvider
from agenthost.errors import MissingCredentialError, MissingExtraError
from agenthost.owners import OWNER_LABEL, owner_id

_log = logging.getLogger(__name__)

LIFETIME = 900.0  # seconds
_MINUTES = 60
_DIRECTORY = Path(__file__).parent.parent / "live"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("agenthost")
    group.addoption(
        "--live",
        action="append",
        default=[],
        metavar="PROVIDER",
        help="run tests/live against this provider's real service, which costs money",
    )
    help_text = f"with --live: minutes after which no more sandboxes are made ({_MINUTES})"
    group.addoption("--live-minutes", type=float, default=_MINUTES, help=help_text)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what was not asked for: tests/live/test_NAME_live.py is about the provider NAME."""
    asked: list[str] = config.getoption("--live") or []
    if collection_path.parent != _DIRECTORY or not collection_path.name.startswith("test_"):
        return None
    return True if collection_path.stem.removeprefix("test_").removesuffix("_live") not in asked else None


class Budget:
    """What may be spent in one run.

    Args:
        provider: Whose sandboxes.
        minutes: For how long they are made.
    """

    def __init__(self, provider: str, minutes: float) -> None:
        self.provider = provider
        self._minutes = minutes
        self._until = time.monotonic() + minutes * 60

    def check(self) -> None:
        """Fail the test that would begin too late."""
        if time.monotonic() >= self._until:
            pytest.fail(f"the {self._minutes:g} minutes of --live-minutes are over: nothing more is made")


def live_run(provider: str, config: pytest.Config) -> Iterator[Budget]:
    """Run what a session fixture is: refuse to begin without an account, and leave nothing in it."""
    try:
        anyio.run(_left, provider)
    except (MissingCredentialError, MissingExtraError) as error:
        pytest.fail(f"--live {provider}: {error}", pytrace=False)
    minutes: float = config.getoption("--live-minutes") or 0
    yield Budget(provider, minutes)
    left, reaped, failed = anyio.run(_clean, provider)
    _log.info("--live %s: %d sandboxes of killed hosts were reaped", provider, len(reaped))
    if left or failed:
        pytest.fail(f"left at {provider}, and ended now: {left}; could not be ended: {failed}", pytrace=False)


async def _left(provider: str) -> list[str]:
    async with open_provider(provider) as opened:
        mine = {OWNER_LABEL: owner_id()}
        return [info.id async for info in opened.list(labels=mine) if info.state != "ended"]


async def _clean(provider: str) -> tuple[list[str], list[str], list[str]]:
    left = await _left(provider)
    async with open_provider(provider) as opened:
        assert isinstance(opened, GuestProvider)
        for sandbox_id in left:
            await (await opened.reach(sandbox_id)).terminate()  # without a link: the guest may be gone
        told = await reap(opened)
    reaped = [one.info.id for one in told if one.outcome == "reaped"]
    return left, reaped, [f"{one.info.id}: {one.reason}" for one in told if one.outcome == "failed"]

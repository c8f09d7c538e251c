"""FakeSandbox keeps what of the contract needs no operating system."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

import pytest

from agenthost.sandbox import SandboxProvider
from agenthost.testing import FakeProvider, SandboxConformance


class TestFake(SandboxConformance):
    lacks: ClassVar[Mapping[str, str]] = {"system": "no operating system"}

    @pytest.fixture
    async def provider(self) -> AsyncGenerator[SandboxProvider | None]:
        async with FakeProvider() as provider:
            yield provider

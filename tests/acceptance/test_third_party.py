"""An adapter that a third party wrote from the page alone keeps the contract."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from agenthost import registry
from agenthost.testing import HostedAgentConformance, SandboxConformance

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register the adapter, as a third party's test file does at its top, for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", {})
        registry.register_provider("directories", "acceptance.directory_provider:DirectoryProvider")
        yield


class Binding:
    provider_name = "directories"

    @pytest.fixture
    def provider_options(self) -> Iterator[Mapping[str, Any]]:
        with tempfile.TemporaryDirectory() as root:
            yield {"root": root}


class TestSandbox(Binding, SandboxConformance): ...


class TestAgent(Binding, HostedAgentConformance): ...

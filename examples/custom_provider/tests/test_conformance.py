"""The provider keeps the contract: on this machine, or where AGENTHOST_SSH_OPTIONS (JSON) says."""

import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance


class Binding:
    provider_name = "ssh"

    @pytest.fixture
    def provider_options(self) -> Iterator[dict[str, Any]]:
        given = json.loads(os.environ.get("AGENTHOST_SSH_OPTIONS", '{"command": ["sh", "-c"]}'))
        with tempfile.TemporaryDirectory() as root:
            yield {"root": root, **given}


class TestSandbox(Binding, SandboxConformance): ...


class TestAgent(Binding, HostedAgentConformance): ...

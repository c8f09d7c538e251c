"""The kit for a Sandbox and its provider."""

from __future__ import annotations

from agenthost.testing.conformance.abilities import AbilityChecks
from agenthost.testing.conformance.bounds import BoundChecks
from agenthost.testing.conformance.lifecycle import LifeChecks
from agenthost.testing.conformance.programs import ProgramChecks
from agenthost.testing.conformance.stored import FileChecks
from agenthost.testing.conformance.streams import StreamChecks


class SandboxConformance(ProgramChecks, StreamChecks, FileChecks, LifeChecks, BoundChecks, AbilityChecks):
    """Checks of one provider and its sandboxes. Subclass it, see ``Conformance`` for what to say:

        class TestMine(SandboxConformance):
            provider_name = "mine"

    Each check gets a fresh sandbox and runs on every backend of the ``anyio_backend`` fixture.
    """

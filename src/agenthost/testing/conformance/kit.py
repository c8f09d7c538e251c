"""What both kits have in common: what is checked, what is skipped, and what is known to deviate."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar, cast

import anyio
import pytest

from agenthost.registry import open_provider
from agenthost.sandbox import Capabilities, Sandbox, SandboxProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.conformance.clauses import checks_of, clause_of, missing

# What no capability tells: a system that runs programs, a link of our own, a name that others can open.
_NOT_CAPABILITIES = frozenset({"system", "link", "process"})
ENDING = 60.0  # seconds that ending a sandbox may take


class Conformance:
    """Subclass it in a test module and say what is to be checked.

    Attributes:
        provider_name: A name for ``open_provider``; or override the fixture ``provider``, or, for a Sandbox
            without a provider, ``sandbox``.
        spec: What sandboxes are made of; its name must be None.
        lacks: What this sandbox cannot have, by need, with the reason; checks that need it are skipped.
        known_deviations: The reason by the name of a check that fails. One that passes is a failure: the
            entry has to go.
        patience: Seconds until a check is given up.
        outside: Host and port of something that a sandbox with a network reaches, for clause 5.3. Where that
            is neither this host nor another sandbox, the check proves nothing without it, and says so.
    """

    pytestmark = pytest.mark.anyio

    provider_name: ClassVar[str] = ""
    spec: ClassVar[SandboxSpec] = SandboxSpec()
    lacks: ClassVar[Mapping[str, str]] = {}
    known_deviations: ClassVar[Mapping[str, str]] = {}
    patience: ClassVar[float] = 120.0
    outside: ClassVar[tuple[str, int] | None] = None

    has_failed: bool = False  # whether the check of this instance has

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = [name for name, _ in checks_of(cls)]
        for name in cls.known_deviations:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TypeError(f"{cls.__name__}.known_deviations: there is no check {name!r}{hint}")

    @pytest.fixture
    def provider_options(self) -> Mapping[str, Any]:
        """The options of the provider."""
        return {}

    @pytest.fixture
    async def provider(self, provider_options: Mapping[str, Any]) -> AsyncGenerator[SandboxProvider | None]:
        """The open provider; None where a sandbox is given without one."""
        if not self.provider_name:
            yield None
            return
        async with open_provider(self.provider_name, **provider_options) as provider:
            yield provider

    @pytest.fixture
    async def sandbox(self, provider: SandboxProvider | None) -> AsyncGenerator[Sandbox]:
        """A fresh sandbox, which ends with the check."""
        if provider is None:
            raise TypeError(f"{type(self).__name__}: give provider_name, or override provider or sandbox")
        sandbox = await provider.create(self.spec)
        try:
            yield sandbox
        finally:
            with anyio.move_on_after(ENDING, shield=True):
                await sandbox.terminate()

    async def forget_image(self, provider: SandboxProvider, image: str) -> None:
        """Remove an image that a check has made. Override it where the provider would keep it for ever."""

    @pytest.fixture(autouse=True)
    def _applies(self, request: pytest.FixtureRequest, provider: SandboxProvider | None) -> None:
        """Skip a check that needs what is not there; expect one to fail that is known to."""
        function: object = request.function
        clause = clause_of(function)
        if clause is None:
            return
        if provider is None:
            if "provider" in inspect.signature(request.function).parameters:
                pytest.skip(f"clause {clause.number}: there is no provider")
            sandbox = cast("Sandbox", request.getfixturevalue("sandbox"))
            named, capabilities = sandbox.provider, sandbox.capabilities
        else:
            named, capabilities = provider.name, provider.capabilities
        for need in clause.needs:
            lack = self.lacks.get(need) or _lack(need, capabilities)
            if lack is not None:
                pytest.skip(f"clause {clause.number}: {named} has {lack}")
        name = cast("Any", function).__name__
        if name in self.known_deviations:
            request.applymarker(pytest.mark.xfail(reason=self.known_deviations[name], strict=True))


def _lack(need: str, capabilities: Capabilities) -> str | None:
    return None if need in _NOT_CAPABILITIES else missing(need, capabilities)

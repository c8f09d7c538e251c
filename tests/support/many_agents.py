"""Agents by the hundred: sandboxes whose runner is the small stand-in of the benchmarks."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from agenthost.link.layout import GuestLayout
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.spec import SandboxSpec

_LIGHT_RUNNER = Path(__file__).parents[2] / "benchmarks/programs/light_runner.py"


class _LightLayout(GuestLayout):
    def runner_argv(self, *, mcp: bool = False) -> list[str]:
        del mcp
        return [self.python, "-S", "-E", str(_LIGHT_RUNNER)]


class LightProvider(UnisolatedProvider):
    """``local-unisolated`` with the small runner."""

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Return what the provider says, with another runner."""
        made = super().layout(spec)
        return _LightLayout(**{field.name: getattr(made, field.name) for field in fields(made)})

"""The commands by name. One is imported when somebody asks for it: all of them take half a second."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperGroup

# Each is a function, or a Typer with commands of its own.
_COMMANDS = {
    "demo": "agenthost.cli.demo:demo",
    "run": "agenthost.cli.run:run",
    "ps": "agenthost.cli.ps:ps",
    "logs": "agenthost.cli.logs:logs",
    "audit": "agenthost.cli.audit:commands",
    "attach": "agenthost.cli.attach:attach",
    "stop": "agenthost.cli.stop:stop",
    "reap": "agenthost.cli.reap:reap",
    "bake": "agenthost.cli.bake:bake",
    "emulate": "agenthost.cli.emulate:emulate",
    "providers": "agenthost.cli.providers:providers",
    "fly": "agenthost.cli.fly:commands",
    "cloudflare": "agenthost.cli.cloudflare:commands",
    "doctor": "agenthost.cli.doctor:doctor",
    "config": "agenthost.cli.config_check:commands",
    "check": "agenthost.cli.check:check",
}


class Commands(TyperGroup):
    """All commands, in the order in which the help shows them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one; None when there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            # Typer suggests what is like it, of these names.
            self.commands.update({name: self.commands.get(name) for name in _COMMANDS})  # type: ignore[misc]
        elif self.commands.get(cmd_name) is None:
            self.commands[cmd_name] = _import(cmd_name)
        return self.commands.get(cmd_name)


def _import(name: str) -> Any:
    found = EntryPoint(name, _COMMANDS[name], "agenthost").load()
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)

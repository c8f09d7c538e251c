"""The commands, and what an exit code means."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from agenthost.cli.demo import demo
from agenthost.cli.doctor import doctor
from agenthost.cli.run import run
from agenthost.cli.stopping import StoppedError
from agenthost.errors import AgentHostError, ConfigError

_FAILED = 1
_MAKES_NO_SENSE = 2

app = typer.Typer(
    name="agenthost",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(run)
app.command()(doctor)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"agenthost {installed_version('agenthost')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Run a Claude agent inside a sandbox."""


def run_command_line(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    0 done, 1 failed, 2 what was asked for makes no sense and nothing was made, 128 + N ended by signal N.
    A reader that goes away (``| head``) is 1, without a complaint: typer sees to that.
    """
    try:
        app(args=list(arguments), prog_name="agenthost")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except ConfigError as error:
        return _say(error, _MAKES_NO_SENSE)
    except AgentHostError as error:
        return _say(error, _FAILED)
    except StoppedError as stopped:
        return 128 + stopped.signal
    return 0


def _say(error: AgentHostError, code: int) -> int:
    print(f"agenthost: {error}", file=sys.stderr)
    return code

"""The command line, and what an exit code means."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from agenthost.cli.commands import Commands
from agenthost.cli.stopping import StoppedError
from agenthost.cli.transcript import printable
from agenthost.errors import AgentHostError, ConfigError

_FAILED = 1
_MAKES_NO_SENSE = 2
_LONGEST = 1000  # characters of what somebody else says
_NEXT = "Try again; `agenthost doctor` says what works on this machine"

app = typer.Typer(
    name="agenthost",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    except OSError as error:
        return _say(f"{_one_line(error)}. {_NEXT}", _FAILED)
    except Exception as error:
        if not _is_of_sdk(error):
            raise  # a defect: its traceback is what a report needs
        return _say(tell_sdk_error(error), _FAILED)
    return 0


def tell_sdk_error(error: Exception) -> str:
    """Return one line for an exception of the Claude Agent SDK: what happened and what to do next."""
    said = _one_line(error)
    # Its message may say only where to look: the CLI's own last words are here.
    stderr = str(getattr(error, "stderr", None) or "").strip().rpartition("\n")[2]
    if stderr and stderr not in said:
        said = f"{said}: {stderr[:_LONGEST]}"
    return f"the agent failed, {type(error).__name__}: {said.rstrip('.')}. {_NEXT}"


def _is_of_sdk(error: Exception) -> bool:
    # Whoever raises it has imported the SDK; to import it for this would cost a second.
    sdk = sys.modules.get("claude_agent_sdk")
    return sdk is not None and isinstance(error, sdk.ClaudeSDKError)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def _say(error: AgentHostError | str, code: int) -> int:
    # Some of it was said in a sandbox.
    print(f"agenthost: {printable(str(error))}", file=sys.stderr)
    return code

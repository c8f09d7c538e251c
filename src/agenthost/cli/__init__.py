"""The ``agenthost`` command. The only place that prints."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 asked for what makes no sense, 130 interrupted."""
    import io
    import sys

    for stream in (sys.stdout, sys.stderr):
        # The encoding may have no emoji, which an agent writes: its work must not be lost for that.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Imported here, so that `agenthost.cli` costs nothing until it is used.
    from agenthost.cli.app import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))

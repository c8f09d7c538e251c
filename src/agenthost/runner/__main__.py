"""Where the runner starts. It runs on old Pythons too, so that one of them is told and shows no trace."""

import json
import sys


def main() -> None:
    """Run to the end of the agent. Does not return."""
    if sys.version_info < (3, 10):  # noqa: UP036 - the check is for a sandbox whose Python is too old
        message = f"the sandbox has Python {sys.version_info[0]}.{sys.version_info[1]}; the SDK needs 3.10"
        error = {"type": "BootstrapError", "bases": [], "message": message}
        sys.stdout.write(json.dumps({"seq": 1, "ts": 0, "kind": "end", "error": error}) + "\n")
        sys.exit(0)
    from agenthost.runner.main import run

    run(sys.argv[1:])


def load_ahead(arguments: list[str]) -> bool:
    """Import what ``main`` needs with these arguments, for processes that are forked later.

    Returns whether all was there. What is wrong is for ``main`` to tell.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 - as above
        return False
    from agenthost.runner.main import load_sdk

    return load_sdk(arguments)


if __name__ == "__main__":
    main()

"""A program behind E2B's login shell: what profiles print must not reach who talks to the program."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence

from agenthost.providers.e2b.places import BOOT

# The user's own profiles are looked for at home, and may print, read what is meant for the program, or exit:
# an agent writes them. Those of the machine in /etc are root's, and run.
ENVIRONMENT = {"HOME": BOOT}


class Opening:
    """Tells what a program prints from what was printed before it began.

    Attributes:
        command: What the shell is to run.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._mark = f"agenthost-{secrets.token_hex(8)}\n"
        # ``exec``: the process that is known by its number must be the program, or a kill would hit only
        # a shell.
        self.command = f"printf '\\n%s\\n' {self._mark.strip()}; exec {shlex.join(argv)}"
        self._before: str | None = ""

    def pass_on(self, text: str) -> str:
        """Return what of the next output is the program's."""
        if self._before is None:
            return text
        before, found, rest = (self._before + text).partition(f"\n{self._mark}")
        if found:
            self._before = None
            return rest
        self._before = before[-len(self._mark) :]  # it may have come in part
        return ""

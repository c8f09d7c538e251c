"""The first program in a machine, by the buffered ``exec`` of the Machines API.

One call may take 30 seconds and returns all output at its end, so the program is left to the machine's main
program (main.sh), and its output is asked for piece by piece.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence

import anyio

from agenthost.errors import ProviderError
from agenthost.providers.fly.api import Call, FlyApi

_SECONDS = 20  # that a script may take; Fly answers 408 to many that take 30
_PIECE = 24_000  # bytes of output that one call returns, in base64
_KEPT = 4000  # bytes of stderr
_ENDED = 10  # exit code of a look at a program that has ended
# Waits 8 seconds at most for output behind the first {seen} bytes, or for the end. The end is looked for
# first: what was printed until then is there. Stderr begins with the exit code: nothing else may print there.
# The main program may be so late that there is no output to look at.
_LOOK = f"""
n=0
while n=$((n + 1)); do
    ended=0
    [ -e code ] && ended={_ENDED}
    printed=0
    [ -e out ] && printed=$(wc -c <out)
    [ "$printed" -gt {{seen}} ] || [ "$ended" != 0 ] || [ "$n" -gt 80 ] && break
    sleep 0.1
done
tail -c +$(({{seen}} + 1)) out 2>/dev/null | head -c {_PIECE} | base64
[ "$ended" = 0 ] || {{{{ cat code && tail -c {_KEPT} err; }}}} >&2
exit $ended
"""


class Shell:
    """Runs scripts in one machine, each to its end.

    Args:
        api: The Machines API.
        path: Of the machine's ``exec``.
    """

    def __init__(self, api: FlyApi, path: tuple[str, ...]) -> None:
        self._api = api
        self._path = path

    async def run(
        self, directory: str, script: str, *, allowed: Sequence[int] = (0,)
    ) -> tuple[int, str, str]:
        """Return a script's exit code, stdout and stderr. Running it twice must do no harm.

        Args:
            directory: Where it runs.
            script: For the shell. It travels as input: arguments are seen by every program in the machine.
            allowed: The exit codes that are no errors.

        Raises:
            ProviderError: Any other exit code.
        """
        doing = f"running a script in machine {self._path[2]}"
        text = f"umask 077; cd {shlex.quote(directory)} || exit 1\n{script}\n"
        body = {"command": ["/bin/sh"], "stdin": text, "timeout": _SECONDS}
        answer = await self._api.again(doing, Call("exec machine", "POST", self._path, body=body))
        # What is 0 or empty may be left out.
        code, out, errors = int(answer.get("exit_code") or 0), answer.get("stdout"), answer.get("stderr")
        if code not in allowed:
            printed = str(errors or out or "nothing")[-_KEPT:]
            raise ProviderError(f"{doing}: it failed with exit code {code}, and printed: {printed}")
        return code, str(out or ""), str(errors or "")


async def write_once(shell: Shell, directory: str, files: Mapping[str, bytes]) -> None:
    """Write files of ASCII text, which hold secrets: what ``exec`` carries, Fly stores nowhere.

    A call that is made again writes nothing: it would bring back what the guest has read and removed.
    """
    script = ["mkdir given 2>/dev/null || exit 0"]
    for name, data in files.items():
        script.append(f"printf %s {shlex.quote(data.decode('ascii'))} >{shlex.quote(name)} || exit 1")
    await shell.run(directory, "\n".join(script))


class FlyProgram:
    """See Running: the program that the machine's main program runs. It takes no input."""

    binary = False

    def __init__(self, shell: Shell, directory: str) -> None:
        self._shell = shell
        self._directory = directory
        self._taken = 0
        self._exit_code: int | None = None
        self.stderr = b""

    async def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Hand a program to the main program, which takes the first one alone."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
        script = "\n".join([*exports, f"exec {shlex.join(argv)}", ""])
        once = "mkdir sent 2>/dev/null || exit 0"  # a call may be repeated
        await self._shell.run(
            self._directory, f"{once}\nprintf %s {shlex.quote(script)} >run.new && mv run.new run.sh"
        )

    async def send(self, data: bytes) -> None:
        """Refuse: nothing reads."""
        del data
        raise anyio.ClosedResourceError

    async def receive(self) -> bytes:
        """Return the next bytes of stdout; ``b""`` at the end."""
        while self._exit_code is None:
            look = _LOOK.format(seen=self._taken)
            code, text, errors = await self._shell.run(self._directory, look, allowed=(0, _ENDED))
            try:
                data = base64.b64decode(text)
                if code == _ENDED and len(data) < _PIECE:
                    first, _, rest = errors.partition("\n")
                    self._exit_code, self.stderr = int(first), rest.encode()
            except ValueError:  # an image whose shell is not a shell, for instance
                raise ProviderError("the machine answers a look at its program with other things") from None
            self._taken += len(data)
            if data:
                return data
        return b""

    async def wait(self) -> int:
        """Return the exit code. Called when ``receive`` has returned ``b""``."""
        assert self._exit_code is not None
        return self._exit_code

    async def aclose(self) -> None:
        """Do nothing: the machine's main program ends the program."""

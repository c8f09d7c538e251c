"""What programs do in a FakeSandbox."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from agenthost.testing.fake_process import ProgramView

ProgramFunction: TypeAlias = "Callable[[ProgramView], Awaitable[int | None]]"
Output: TypeAlias = bytes | str | Sequence[bytes | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A program that says what it was told to.

    Attributes:
        exit_code: What it ends with.
        stdout: Bytes or text, in one piece or in several.
        stderr: Likewise, after stdout.
        seconds: Virtual time that each piece, and the end, takes. ``math.inf``: it says all and never ends.
    """

    exit_code: int = 0
    stdout: Output = ()
    stderr: Output = ()
    seconds: float = 0.0

    async def __call__(self, program: ProgramView) -> int:
        """Run."""
        for pieces, write in ((self.stdout, program.write), (self.stderr, program.write_error)):
            for piece in _pieces(pieces):
                if 0 < self.seconds < math.inf:
                    await program.sleep(self.seconds)
                await write(piece)
        if self.seconds > 0:
            await program.sleep(self.seconds)
        return self.exit_code


def _pieces(output: Output) -> list[bytes]:
    whole = [output] if isinstance(output, bytes | str) else output
    return [piece.encode() if isinstance(piece, str) else piece for piece in whole]


Matcher: TypeAlias = "str | Sequence[str] | Callable[[Sequence[str]], bool]"
Behaviour: TypeAlias = "Scripted | ProgramFunction | BaseException"


@dataclass(slots=True)
class Rule:
    """Which programs behave how, and how often that holds."""

    matcher: Matcher
    behaviour: Behaviour
    times: float

    def fits(self, argv: Sequence[str]) -> bool:
        """Return whether this is what such a program does."""
        if callable(self.matcher):
            return bool(self.matcher(argv))
        first = [self.matcher] if isinstance(self.matcher, str) else list(self.matcher)
        return (
            list(argv[: len(first)]) == first or [argv[0].rpartition("/")[2], *argv[1 : len(first)]] == first
        )


async def _cat(program: ProgramView) -> int:
    for path in program.argv[1:]:
        try:
            await program.write(program.files.read(path))
        except OSError as error:
            await program.write_error(f"cat: {path}: {error.strerror}\n".encode())
            return 1
    if not program.argv[1:]:
        while data := await program.read():
            await program.write(data)
    return 0


async def _echo(program: ProgramView) -> int:
    await program.write(" ".join(program.argv[1:]).encode("utf-8", "surrogateescape") + b"\n")
    return 0


async def _true(_: ProgramView) -> int:
    return 0


async def _false(_: ProgramView) -> int:
    return 1


async def _sleep(program: ProgramView) -> int:
    await program.sleep(float(program.argv[1]))
    return 0


# What every FakeSandbox has unless its script says otherwise.
ALWAYS_THERE: Mapping[str, ProgramFunction] = {
    "cat": _cat,
    "echo": _echo,
    "false": _false,
    "sleep": _sleep,
    "true": _true,
}

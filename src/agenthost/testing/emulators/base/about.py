"""What each emulator does and does not do, as a page that is made from the emulators themselves.

``python -m agenthost.testing.emulators.base.about`` prints it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agenthost.testing import emulators

_HEAD = """# What the emulators do

Made from the emulators by `python -m agenthost.testing.emulators.base.about`; a test compares. How to use
them is in [testing](testing.md#emulators-of-clouds). A call that an emulator does not know is refused and is
in `emulator.unknown`.

All of them have, in tests:

- faults of calls, by `emulator.faults`: `refuse(call, status)`, `lose_answer(call)`, `hold(call)`, and
  `add(Fault(...))` with `status`, `retry_after`, `after`, `lose`, `drop`, `hold`, `delay` and `times`;
  `limit(call, at_once, each_second)`; `revoked = True` refuses the credential. A call is named by its
  beginning, as below; a status is one of HTTP or the name of one of gRPC.
- faults of streams: `cut()`, `stall()`, `slow(bytes_per_second)`, `flow()`; of sandboxes: `lose(id)`,
  `expire(id)`.
- time: `clock.advance(seconds)` lets lifetimes pass. Programs inside do not see it.
- what happened: `calls`, `unknown`, `running()`, `await ended(id)`, `await machine(id)`.

And none of them has what its machines lack. They are local sandboxes: one user, this machine's kernel,
programs and Python (`LD_LIBRARY_PATH` is set where that needs it), no caps, and files that can be written in
the home, the working directory and `/tmp` alone. What an image brings to `/opt/agenthost` is there. Nothing
outside of this machine is reached by the name of a host.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One emulator.

    Attributes:
        client: The vendor's client that talks to it.
        calls: The calls that it answers.
        refused: What it refuses with these words, by a short name.
        unlike: Where it differs from its provider otherwise.
        traps: What it does to its clients as its provider does, unless it is friendly.
    """

    client: str
    calls: Sequence[str]
    refused: Mapping[str, str]
    unlike: Sequence[str]
    traps: Sequence[str]


def emulator_names() -> list[str]:
    """Return the providers that there are emulators of: each is a package with ``emulator`` and ``about``."""
    packages = {one.name for one in pkgutil.iter_modules(emulators.__path__) if one.ispkg}
    return sorted(packages - {"base"})


def render() -> str:
    """Return the page. MissingExtraError: a vendor's client is not installed."""
    parts = [_HEAD]
    for name in emulator_names():
        module: Any = importlib.import_module(f"agenthost.testing.emulators.{name}")
        about: About = importlib.import_module(f"agenthost.testing.emulators.{name}.about").about()
        parts.append(f"## {name}\n\nFor {about.client}. `agenthost emulate {name}` serves it.\n")
        parts.append(_section("Options of `emulator`", _options(module.emulator)))
        parts.append(_section("It does not do, and says so", about.refused.values()))
        parts.append(_section("It differs from the provider", about.unlike))
        parts.append(_section("It is as bad as the provider, unless `friendly=True`", about.traps))
        parts.append(_section("Calls that it answers", [f"`{call}`" for call in about.calls]))
    return "\n".join(parts)


def _section(title: str, lines: Any) -> str:
    return f"### {title}\n\n" + "".join(f"- {line}\n" for line in lines)


def _options(function: Callable[..., object]) -> list[str]:
    """Return the options of a function, from its signature and its docstring."""
    text = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): ((?:.|\n     +)+)", text, re.MULTILINE)
    found = {name: " ".join(words.split()) for name, words in entries}
    return [
        f"`{name}={parameter.default!r}`: {found[name].replace('``', '`')}"
        for name, parameter in inspect.signature(function).parameters.items()
    ]


if __name__ == "__main__":
    sys.stdout.write(render())

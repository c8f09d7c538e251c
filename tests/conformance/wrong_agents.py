"""Providers whose agents are wrong in one thing: inside, by another text in our programs, or outside."""

from __future__ import annotations

import errno
import io
import marshal
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import MAGIC_NUMBER
from typing import Any, ClassVar, Literal, TypeVar, cast

from agenthost import SandboxInfo, SandboxSpec
from agenthost.adapter.stripping import strip_source
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot, Carrier
from agenthost.spec import Limits
from agenthost.testing.conformance.hosting import KEY


@dataclass(frozen=True, slots=True)
class Patch:
    """One text in one module of a program that travels into the sandbox, and what stands there instead.

    Attributes:
        program: ``guest`` or ``runner``.
        module: Its path below ``agenthost``.
        old: What stands there once, without comments: sources travel without them.
        new: What does not do as it should.
    """

    program: Literal["guest", "runner"]
    module: str
    old: str
    new: str

    def apply(self, boot: Boot) -> Boot:
        """Return what is put into a sandbox, with this in it."""
        name = f"{self.program}.pyz"
        return replace(boot, files={**boot.files, name: self._patched(boot.files[name])})

    def _patched(self, program: bytes) -> bytes:
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(program)) as source,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            path = f"agenthost/{self.module}"
            text = strip_source(source.read(path)).decode()
            assert text.count(self.old) == 1, f"{self.module} has not once {self.old!r}"
            text = text.replace(self.old, self.new)
            # What cannot even start is not wrong in one thing.
            code = compile(text, self.module, "exec")
            flags = (1).to_bytes(4, "little") + bytes(8)  # by a hash that is not looked at
            wrong = {path: text.encode(), f"{path}c": MAGIC_NUMBER + flags + marshal.dumps(code)}
            for entry in source.infolist():
                target.writestr(entry, wrong.get(entry.filename) or source.read(entry))
        return buffer.getvalue()


class WrongLocal(LocalProvider):
    """The local provider; what differs says the subclass. It remembers what it made."""

    patch: ClassVar[Patch | None] = None

    def __init__(self, *, secret: str | None = None, limits: Limits | None = None) -> None:
        super().__init__(secret=secret, limits=limits)
        self.made: list[Backend] = []

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        backend = await super().make(spec, boot if self.patch is None else self.patch.apply(boot))
        self.made.append(backend)
        return backend


@dataclass(frozen=True, slots=True)
class WrongAgent:
    """A provider whose agents are wrong in one thing.

    Attributes:
        clause: What it violates.
        provider: Makes it.
        also: Other checks that it cannot but fail, with the reason.
    """

    clause: str
    provider: type[WrongLocal]
    also: Mapping[str, str]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.clause} {self.provider.__name__}"


WRONG_AGENTS: list[WrongAgent] = []
T = TypeVar("T", bound=type[WrongLocal])


def wrong_agent(clause: str, **also: str) -> Callable[[T], T]:
    """Say what a provider does wrong, and which other checks fail for that, with the reason."""

    def note(found: T) -> T:
        WRONG_AGENTS.append(WrongAgent(clause, found, also))
        return found

    return note


# ---- what is wrong inside


@wrong_agent("6.1", test_another_process_goes_on_with_an_agent="that process hears of none, too")
class KeepsSystemMessages(WrongLocal):
    patch = Patch(
        "runner",
        "runner/agent.py",
        "if self._journal.message(text):",
        'if type(message).__name__ != "SystemMessage" and self._journal.message(text):',
    )


@wrong_agent(
    "6.2",
    test_an_agent_whose_host_is_away_finishes_its_tool_and_waits="the tool and the check meet in a file",
)
class StartsAgentsElsewhere(WrongLocal):
    patch = Patch("guest", "guest/first_agent.py", "cwd=config.workdir", 'cwd="/tmp"')


@wrong_agent("6.3")
class OnlySaysItInterrupted(WrongLocal):
    patch = Patch(
        "runner",
        "runner/agent.py",
        "await function(**parameters)",
        'None if method == "interrupt" else await function(**parameters)',
    )


@wrong_agent("6.4")
class CutsLongPrompts(WrongLocal):
    patch = Patch("runner", "runner/prompts.py", '"content": prompt}', '"content": prompt[: 1024 * 1024]}')


@wrong_agent("6.5")
class AsksButAllows(WrongLocal):
    patch = Patch(
        "runner",
        "runner/callbacks.py",
        "context=context\n        )",
        "context=context\n        ) and sdk.module.PermissionResultAllow()",
    )


@wrong_agent("6.6")
class RegistersNoHooks(WrongLocal):
    patch = Patch("runner", "runner/callbacks.py", "    if hooks:\n", "    if not hooks:\n")


@wrong_agent("6.7")
class HasNoToolsOfTheHost(WrongLocal):
    patch = Patch(
        "runner",
        "runner/mcp_relay.py",
        "            answer = await self._ask(message)\n",
        '            if message["method"] == "tools/call":\n'
        '                raise HostError("it cannot be reached")\n'
        "            answer = await self._ask(message)\n",
    )


@wrong_agent("6.10")
class TellsNobodyOfItsHeir(WrongLocal):
    patch = Patch(
        "guest",
        "wire/guest.py",
        '        self._post({"t": "superseded", "agent": agent, "epoch": epoch})\n',
        "",
    )


@wrong_agent("6.11")
class RefusesWhileNobodyIsThere(WrongLocal):
    patch = Patch(
        "guest",
        "guest/model.py",
        "        length = _length(headers)\n        if",
        "        length = _length(headers)\n"
        "        if self._hub.driver_of(self._hub.doors[agent]) is None:\n"
        '            raise BadRequestError(503, "no host is there")\n'
        "        if",
    )


@wrong_agent("6.12")
class AsksAllTheSame(WrongLocal):
    patch = Patch(
        "runner",
        "runner/options.py",
        "values[name] = sdk.codec.decode(value)",
        'values[name] = "default" if value == "bypassPermissions" else sdk.codec.decode(value)',
    )


# ---- what is wrong outside


class DialledOnce:
    """A backend that carries one link only, and that until it is cut."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._dialled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def dial(self) -> Carrier:
        if self._dialled:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "once is enough")
        self._dialled = True
        return await self._inner.dial()


@wrong_agent("6.8")
class CannotBeDialledAgain(WrongLocal):
    def __init__(self) -> None:
        super().__init__(limits=Limits(link_budget=3.0))

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        return cast("Backend", DialledOnce(await super().make(spec, boot)))


@wrong_agent(
    "6.9", test_what_a_killed_host_leaves_is_reaped="another process has to attach before it is killed"
)
class HasASecretOfItsOwn(WrongLocal):
    def __init__(self) -> None:
        super().__init__(secret="no other process has this one")


@wrong_agent("6.13")
class TakesTheKeyAlong(WrongLocal):
    async def create(self, spec: SandboxSpec, **how: Any) -> GuestSandbox:
        return await super().create(replace(spec, env={**spec.env, "TAKEN": KEY}), **how)


@wrong_agent("6.14")
class ListsNothing(WrongLocal):
    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        return super().list({**(labels or {}), "made-by": "nobody"})

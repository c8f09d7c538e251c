"""Lines of the wrong shape, and a machine that has nothing left: errors of agenthost that say what to do."""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import claude_agent_sdk
import pytest
from redteam.hostile_guest import Frame, Frames, HostileGuest, answered, data, end

from agenthost import SandboxSpec, open_provider
from agenthost.adapter import provider as adapter_provider
from agenthost.agent import errors as agent_errors
from agenthost.agent import messages
from agenthost.agent.errors import rebuild
from agenthost.agent.messages import decode_message, read_reply
from agenthost.errors import AgentError, AgentHostError, LinkError, ResourceExhaustedError
from agenthost.link import channel, client, files, process, session
from agenthost.link.client import GuestSandbox
from agenthost.wire.codec import Codec
from agenthost.wire.frames import encode

LIMIT = 60
PLAIN = "local-unisolated"

attack, control = pytest.mark.attack, pytest.mark.control
BREAKS_HOST = "break the host's code with an error that it does not expect"
WEARS_OUT = "have the host work for ever"
ENDS_UNTOLD = "have the host fail without a word about what ran out"

_SIMPLE: list[object] = [
    None,
    True,
    -1,
    10**400,
    1.5,
    "x",
    [],
    [1],
    {},
    {"a": 1},
    {"pid": None},
    {"data": "*"},
]
_ANSWERS: list[object] = [
    {"data": 5},
    {"size": "big"},
    {"size": -1},
    {"kept_for": "x"},
    [{"agent": "a"}],
    {"type": "OSError"},
]
_REFUSALS: list[object] = [
    {"type": "OSError", "errno": []},
    {"type": "OSError", "errno": 2**40, "path": 5},
    {"type": []},
]
JUNK = [*_SIMPLE, *_ANSWERS, *_REFUSALS]

CALLS: list[Callable[[GuestSandbox], Awaitable[object]]] = [
    lambda sandbox: sandbox.agents(),
    lambda sandbox: sandbox.kept_for(),
    lambda sandbox: sandbox.exec(["true"], timeout=0.5),
    lambda sandbox: sandbox.read_file("a"),
    lambda sandbox: sandbox.write_file("a", b"b"),
]
TYPED = (AgentHostError, OSError)
# Each handles one part of what comes from inside.
READERS = (client, process, files, channel)


class Junk:
    """What a guest answers every call with, one after the other."""

    def __init__(self) -> None:
        self.value: object = None
        self.ok = True

    def answers(self, call: Frame) -> Frames:
        """Answer with junk."""
        yield answered(call, self.value, ok=self.ok)

    @staticmethod
    def streams(sid: str) -> Frames:
        """Every stream is empty."""
        yield end(sid, 0)


async def untyped_of_answers() -> list[str]:
    """Return the errors of Python's own that calls raise when their answers have the wrong shape."""
    junk = Junk()
    found: list[str] = []
    async with HostileGuest(junk.answers, junk.streams).sandbox(call_timeout=1) as sandbox:
        for junk.ok in (True, False):
            for junk.value in JUNK:
                for call in CALLS:
                    try:
                        with anyio.fail_after(LIMIT):
                            await call(sandbox)
                    except TYPED:
                        pass
                    except Exception as error:  # noqa: BLE001 - this is what is looked for
                        found.append(f"{junk.value!r:.40}: {error!r:.80}")
    return found


@attack(BREAKS_HOST, "answers to calls that have the wrong shape")
async def test_an_answer_of_the_wrong_shape_is_a_typed_error() -> None:
    assert await untyped_of_answers() == []


@control("answers to calls that have the wrong shape")
async def test_without_the_guard_an_answer_of_the_wrong_shape_is_pythons_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reader in READERS:
        monkeypatch.setattr(reader, "reading", nullcontext)
    assert len(await untyped_of_answers()) > 10


async def error_of_a_head(head: bytes) -> Exception | None:
    """Return what a model request with this head raises."""
    opened = encode({"t": "open", "s": "a/a/m/1/q", "agent": "a", "meta": {"answer": "a/a/m/1/r"}})

    def stream(sid: str) -> Frames:
        if sid.endswith("/q"):
            yield data(sid, 0, head + b"\n")
        elif sid.endswith("/out"):
            yield opened

    def call(frame: Frame) -> Frames:
        yield answered(frame, None)

    async with HostileGuest(call, stream).sandbox() as sandbox, sandbox.drive_agent("a") as driven:
        with anyio.fail_after(LIMIT):
            try:
                await (await driven.next_exchange()).head()
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                return error
    return None


HEADS = [
    b"",
    b"{}",
    b"[]",
    b"5",
    b"\xff",
    b'{"headers":5}',
    b'{"headers":[1],"method":"GET","path":"/"}',
    b"[" * 900,
]


@attack(BREAKS_HOST, "the head of a model request that has the wrong shape")
@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
async def test_a_head_of_the_wrong_shape_is_a_typed_error(head: bytes) -> None:
    assert isinstance(await error_of_a_head(head), LinkError)


@control("the head of a model request that has the wrong shape")
async def test_without_the_guard_a_head_of_the_wrong_shape_is_pythons_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "reading", nullcontext)
    assert isinstance(await error_of_a_head(b"{}"), KeyError)


def life() -> Any:
    """Return what the readers of messages need of an agent's life."""
    return SimpleNamespace(sdk=claude_agent_sdk, codec=Codec({}))


REPLIES: list[dict[str, Any]] = [
    {},
    {"ok": True},
    {"ok": False},
    {"ok": False, "error": "text"},
    {"ok": False, "error": {"type": ["x"], "bases": 5}},
    {"ok": False, "error": {"type": "KeyError", "message": "x"}},
    {"ok": True, "result": {"$bytes": "*"}},
    {"ok": True, "result": {"$nothing": 1}},
]


def untyped_of_replies() -> list[str]:
    """Return the errors that are not AgentErrors, of replies that have the wrong shape."""
    found: list[str] = []
    for reply in REPLIES:
        try:
            read_reply(reply, life())
        except AgentError:
            continue
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            found.append(repr(error))
    return found


@attack(BREAKS_HOST, "replies to control methods that have the wrong shape")
def test_a_reply_of_the_wrong_shape_is_an_agent_error() -> None:
    assert untyped_of_replies() == []


@control("replies to control methods that have the wrong shape")
def test_without_the_guard_a_reply_of_the_wrong_shape_is_pythons_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "_read", lambda read, *arguments: read(*arguments))
    assert any("KeyError" in error for error in untyped_of_replies())


FORGED = {"type": "KeyError", "bases": ["LookupError", "Exception"], "message": "forged"}


@attack(BREAKS_HOST, "errors in the journal that name an exception of Python's own")
def test_an_error_of_pythons_own_from_inside_is_an_agent_error() -> None:
    for name in ("KeyError", "TypeError", "ValueError", "SystemExit"):
        assert type(rebuild({**FORGED, "type": name}, claude_agent_sdk, Codec({}))) is AgentError


@control("errors in the journal that name an exception of Python's own")
def test_without_the_list_an_error_from_inside_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    every = frozenset({"KeyError"})
    monkeypatch.setattr(
        agent_errors, "rebuild", lambda fault, sdk, codec: agent_errors._rebuild(fault, sdk, codec, every)
    )
    assert type(agent_errors.rebuild(FORGED, claude_agent_sdk, Codec({}))) is KeyError


@attack(BREAKS_HOST, "messages in the journal that are none")
@pytest.mark.parametrize(
    "encoded", [b'"x"', b"5", b"null", b"[]", b'{"a":1}', b'{"$tuple":[1]}', b'{"$type":[]}']
)
def test_a_value_in_the_place_of_a_message_is_refused(encoded: bytes) -> None:
    with pytest.raises(AgentError):
        messages._read(decode_message, b'{"seq":1,"ts":1.0,"kind":"message","message":%b}' % encoded, life())


@control("messages in the journal that are none")
def test_without_the_check_any_value_reaches_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_NO_MESSAGES", ())
    line = b'{"seq":1,"ts":1.0,"kind":"message","message":{"a":1}}'
    assert messages._read(decode_message, line, life()) == {"a": 1}


async def dialled_by_a_host(monkeypatch: pytest.MonkeyPatch, most: int) -> int:
    """Break the wire's rules on every carrier; return on how many, up to ``most``."""
    monkeypatch.setattr(session, "_FIRST_DELAY", 0.0)
    guest = HostileGuest(at_once=[b'{"t":"nonsense"}\n'])
    with anyio.fail_after(LIMIT):
        async with guest.sandbox() as sandbox:
            while guest.dialled < most and sandbox.session.failure.error is None:
                await anyio.lowlevel.checkpoint()
            error = sandbox.session.failure.error
            assert error is None or isinstance(error, LinkError)
    return guest.dialled


@attack(WEARS_OUT, "a guest that breaks the wire's rules on every carrier")
async def test_a_link_whose_guest_breaks_the_rules_again_and_again_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await dialled_by_a_host(monkeypatch, 300) == session._BREACHES


@control("a guest that breaks the wire's rules on every carrier")
async def test_without_the_count_the_host_dials_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_BREACHES", 1 << 60)
    assert await dialled_by_a_host(monkeypatch, 300) == 300


# ---- what runs out on this machine


@contextmanager
def no_descriptors() -> Generator[None]:
    """Leave this process no file descriptor."""
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_threads() -> Generator[None]:
    """Be as Python is when the kernel gives no thread."""

    def start(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield


@contextmanager
def no_processes() -> Generator[None]:
    """Be as Python is when the kernel gives no process."""

    async def open_process(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "open_process", open_process)
        yield


async def error_of_create(lacking: Callable[[], Any]) -> Exception | None:
    """Return what making a sandbox raises on a machine that lacks something; None where it is made."""
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            sandbox = None
            try:
                with lacking():
                    sandbox = await provider.create(SandboxSpec())
            except Exception as error:  # noqa: BLE001 - this is what is asked
                return error
            finally:
                if sandbox is not None:
                    await sandbox.terminate()
    return None


@attack(ENDS_UNTOLD, "descriptors that have run out")
async def test_no_descriptor_left_is_an_error_that_says_what_to_do() -> None:
    error = await error_of_create(no_descriptors)
    assert isinstance(error, ResourceExhaustedError)
    assert "ulimit -n" in str(error)


# trio itself waits in a thread here, and the run would hang without one.
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@attack(ENDS_UNTOLD, "threads that have run out")
@on_asyncio
async def test_without_a_thread_a_sandbox_is_made_or_the_error_says_what_to_do_and_none_is_left() -> None:
    """A thread is wanted to wait for the keeper's start, by asyncio of some Pythons alone."""
    error = await error_of_create(no_threads)
    assert error is None or isinstance(error, ResourceExhaustedError)
    assert error is None or "TasksMax" in str(error)


@attack(ENDS_UNTOLD, "processes that have run out")
async def test_no_process_left_is_an_error_that_says_what_to_do() -> None:
    error = await error_of_create(no_processes)
    assert isinstance(error, ResourceExhaustedError)
    assert "TasksMax" in str(error)


@control("descriptors that have run out")
@control("threads that have run out")
@control("processes that have run out")
@on_asyncio
async def test_without_the_name_what_ran_out_is_an_error_of_pythons_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapter_provider, "naming_what_ran_out", nullcontext)
    for lacking in (no_descriptors, no_threads, no_processes):
        error = await error_of_create(lacking)
        assert error is not None or lacking is no_threads
        assert not isinstance(error, ResourceExhaustedError)

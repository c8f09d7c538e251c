"""session_store: what is appended, and what comes of it."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import (
    InMemorySessionStore,
    Message,
    ResultMessage,
    SessionKey,
    SessionStore,
    SessionStoreEntry,
    delete_session_via_store,
    fold_session_summary,
    fork_session_via_store,
    get_session_info_from_store,
    get_session_messages_from_store,
    get_subagent_messages_from_store,
    list_sessions_from_store,
    list_subagents_from_store,
    project_key_for_directory,
    rename_session_via_store,
    tag_session_via_store,
)
from parity.scenario import Run, scenario
from parity.table.tasks import AGENTS, TOOLS, answers

from agenthost.testing import Hold, Text, ToolUse, Turn

SESSION = "00000000-0000-4000-8000-0000000000cc"


def in_order(entries: list[SessionStoreEntry]) -> dict[str, Any]:
    """Return the conversation, and the kinds of what the CLI writes down beside it.

    Marks such as the latest prompt come when the CLI finds time, once or twice.
    """
    return {
        "conversation": [entry for entry in entries if "uuid" in entry],
        "aside": sorted({entry["type"] for entry in entries if "uuid" not in entry}),
    }


class Noting(InMemorySessionStore):
    """A store that records what it is asked, and fails when it is told to."""

    def __init__(self, run: Run, *, failing: str = "") -> None:
        super().__init__()
        self._run = run
        self._failing = failing

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        self._run.note("append", {"key": key, **in_order(entries)})
        if self._failing == "append":
            raise ConnectionError("the store is \u00fc away")
        await super().append(key, entries)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        found = await super().load(key)
        self._run.note("load", key, None if found is None else in_order(found)["aside"])
        if self._failing == "load":
            raise ConnectionError("the store is \u00fc away")
        return found


class Small:
    """A store that has only what it must have."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._kept: dict[str, list[Any]] = {}

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        self._kept.setdefault(key["session_id"] + key.get("subpath", ""), []).extend(entries)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        self._run.note("load", key)
        return self._kept.get(key["session_id"] + key.get("subpath", ""))


def _session(messages: list[Message]) -> str:
    last = messages[-1]
    assert isinstance(last, ResultMessage)
    return last.session_id


@scenario(
    "option:session_store",
    connects=False,
    script=[ToolUse("Bash", {"command": "echo '\u00fc'"}, id="toolu_1"), Text("Done.")],
    shows=('"what": "append"', '"type": "assistant"'),
    on=("local-unisolated", "local"),
    trio=True,
)
async def a_session_is_mirrored(run: Run) -> None:
    async with run.open(session_store=Noting(run), allowed_tools=["Bash"]) as client:
        await run.ask("Go on.", client)


def _wait_for_the_store(run: Run) -> list[Any]:
    use = ToolUse("Bash", {"command": "echo one"}, id="toolu_1")
    # Only a store that is told at once hears of the first answer before the second.
    return [use, Turn(Text("Do"), Hold(run.event("told of toolu_1")), Text("ne."))]


class Telling(Noting):
    """A store that tells when it has heard of a tool."""

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        await super().append(key, entries)
        if "toolu_1" in repr(entries):
            self._run.event("told of toolu_1").set()


@scenario("option:session_store_flush", connects=False, script=_wait_for_the_store)
async def a_session_is_mirrored_at_once(run: Run) -> None:
    store = Telling(run)
    async with run.open(session_store=store, session_store_flush="eager", allowed_tools=["Bash"]) as client:
        await run.ask("One?", client)
    # How the entries are put together is a matter of time; which they are and their order is not.
    given = [entry for call in run.record.callbacks for entry in call["given"]["conversation"]]
    run.record.callbacks[:] = [{"what": "all entries", "given": given}]


@scenario("option:session_store option:resume", connects=False, script=[Text("One."), Text("Two.")])
async def a_session_is_resumed_from_its_store(run: Run) -> None:
    store = Noting(run)
    async with run.open(session_store=store) as client:
        messages = await run.ask("One?", client)
    await run.forget_sessions()
    async with run.open(session_store=store, resume=_session(messages)) as client:
        await run.ask("Two?", client)


@scenario(
    "option:session_store option:continue_conversation",
    connects=False,
    script=[Text("One."), Text("Two.")],
)
async def the_latest_conversation_of_a_store_goes_on(run: Run) -> None:
    store = Noting(run)
    async with run.open(session_store=store) as client:
        await run.ask("One?", client)
    await run.forget_sessions()
    async with run.open(session_store=store, continue_conversation=True) as client:
        await run.ask("Two?", client)


@scenario("option:session_store option:fork_session", connects=False, script=[Text("One."), Text("Two.")])
async def a_session_of_a_small_store_is_forked(run: Run) -> None:
    store: Any = Small(run)
    async with run.open(session_store=store) as client:
        messages = await run.ask("One?", client)
    await run.forget_sessions()
    async with run.open(session_store=store, resume=_session(messages), fork_session=True) as client:
        await run.ask("Two?", client)


@scenario(
    "class:MirrorErrorMessage option:session_store",
    connects=False,
    script=[Text("One."), Text("Two.")],
    shows=('"$class": "MirrorErrorMessage"', "the store is \\u00fc away"),
    on=("local-unisolated", "local"),
)
async def a_store_that_does_not_take(run: Run) -> None:
    async with run.open(session_store=Noting(run, failing="append")) as client:
        await run.ask("One?", client)
        await run.ask("Two?", client)


@scenario(
    "option:session_store",
    connects=False,
    shows=("the store is \\u00fc away",),
    masks=("a refusal of the CLI", "stderr of a CLI that died"),
)
async def a_store_that_does_not_give(run: Run) -> None:
    await run.refused(session_store=Noting(run, failing="load"), resume=SESSION)


class Slow(Noting):
    """A store whose ``load`` takes its time."""

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        self._run.note("load", key)
        await self._run.event("never").wait()
        return None


@scenario(
    "option:load_timeout_ms",
    connects=False,
    shows=("100",),
    masks=("a refusal of the CLI", "stderr of a CLI that died"),
)
async def a_store_that_takes_too_long(run: Run) -> None:
    await run.refused(session_store=Slow(run), resume=SESSION, load_timeout_ms=100)


@scenario(
    "option:session_store option:resume",
    connects=False,
    shows=("No conversation found",),
    masks=("stderr of a CLI that died",),
)
async def a_session_that_the_store_does_not_have(run: Run) -> None:
    await run.refused(session_store=Noting(run), resume=SESSION)


@scenario("option:session_store option:enable_file_checkpointing", connects=False, shows=("ValueError",))
async def a_store_with_file_checkpoints(run: Run) -> None:
    await run.refused(session_store=Noting(run), enable_file_checkpointing=True)
    await run.refused(session_store=Small(run), continue_conversation=True)


FUNCTIONS = (
    delete_session_via_store,
    fold_session_summary,
    fork_session_via_store,
    get_session_info_from_store,
    get_session_messages_from_store,
    get_subagent_messages_from_store,
    list_sessions_from_store,
    list_subagents_from_store,
    project_key_for_directory,
    rename_session_via_store,
    tag_session_via_store,
)


@scenario(
    f"class:SDKSessionInfo class:SessionMessage {' '.join(f'function:{one.__name__}' for one in FUNCTIONS)}",
    connects=False,
    script=answers(background=False),
    shows=('"$class": "SDKSessionInfo"', '"$class": "SessionMessage"', "Three sheep."),
)
async def what_a_store_can_be_asked_afterwards(run: Run) -> None:
    store: SessionStore = InMemorySessionStore()
    async with run.open(session_store=store, agents=AGENTS, **TOOLS) as client:
        session = _session(await run.ask("Go on.", client))
    at = run.work
    run.see(project_key_for_directory(at))
    run.see(await list_sessions_from_store(store, directory=at))
    summaries = await store.list_session_summaries(project_key_for_directory(at))
    run.see([summary["session_id"] for summary in summaries])
    run.see(await get_session_info_from_store(store, session, directory=at))
    run.see(await get_session_messages_from_store(store, session, directory=at))
    subagents = await list_subagents_from_store(store, session, directory=at)
    run.see({"subagents": len(subagents)})
    for agent in subagents:
        run.see(await get_subagent_messages_from_store(store, session, agent, directory=at))
    await rename_session_via_store(store, session, "A title", directory=at)
    await tag_session_via_store(store, session, "a tag", directory=at)
    forked = await fork_session_via_store(store, session, directory=at)
    run.see(await get_session_info_from_store(store, session, directory=at))
    run.see(len(await get_session_messages_from_store(store, forked.session_id, directory=at)))
    await delete_session_via_store(store, session, directory=at)
    run.see(len(await list_sessions_from_store(store, directory=at)))

"""Options that say which conversation goes on, and how."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import AssistantMessage, Message, ResultMessage, UserMessage
from parity.scenario import Run, scenario

from agenthost.testing import Text

OWN = "00000000-0000-4000-8000-0000000000aa"
REPLAY: dict[str, Any] = {"extra_args": {"replay-user-messages": None}}


def _session(messages: list[Message]) -> str:
    last = messages[-1]
    assert isinstance(last, ResultMessage)
    return last.session_id


def _answers(messages: list[Message]) -> list[str]:
    return [str(m.uuid) for m in messages if isinstance(m, AssistantMessage)]


async def _first(run: Run, *prompts: str) -> list[list[Message]]:
    async with run.open(**REPLAY) as client:
        return [await run.ask(prompt, client) for prompt in prompts]


@scenario(
    "option:session_id",
    script=[Text("Done.")],
    options={"session_id": OWN},
    shows=(f'"session_id": "{OWN}"',),
)
async def a_session_id_of_ones_own(run: Run) -> None:
    await run.ask("Go on.")


@scenario(
    "option:session_id error:ProcessError",
    connects=False,
    script=[Text("One.")],
    shows=("ProcessError",),
    masks=("stderr of a CLI that died",),
)
async def a_session_id_that_is_in_use(run: Run) -> None:
    async with run.open(session_id=OWN) as client:
        await run.ask("One?", client)
    await run.refused(session_id=OWN)


@scenario(
    "option:resume", connects=False, script=[Text("One."), Text("Two.")], on=("local-unisolated", "local")
)
async def a_session_is_resumed(run: Run) -> None:
    (messages,) = await _first(run, "One?")
    async with run.open(resume=_session(messages)) as client:
        await run.ask("Two?", client)


@scenario(
    "option:resume error:ResultError",
    connects=False,
    shows=("No conversation found with session ID", "ResultError"),
    masks=("stderr of a CLI that died",),
)
async def a_session_that_is_not_there(run: Run) -> None:
    await run.refused(resume=OWN)
    await run.one_shot("Go on.", resume=OWN)


@scenario("option:continue_conversation", connects=False, script=[Text("One."), Text("Two.")])
async def the_latest_conversation_goes_on(run: Run) -> None:
    await _first(run, "One?")
    async with run.open(continue_conversation=True) as client:
        await run.ask("Two?", client)


@scenario("option:fork_session", connects=False, script=[Text("One."), Text("Two."), Text("Another two.")])
async def a_session_is_forked(run: Run) -> None:
    (messages,) = await _first(run, "One?")
    async with run.open(resume=_session(messages), fork_session=True) as client:
        forked = await run.ask("Two?", client)
        run.see(_session(forked) != _session(messages))
    async with run.open(resume=_session(messages)) as client:
        await run.ask("Another two?", client)


@scenario(
    "option:resume_session_at", connects=False, script=[Text("One."), Text("Two."), Text("Another two.")]
)
async def a_session_is_resumed_at_an_earlier_message(run: Run) -> None:
    one, two = await _first(run, "One?", "Two?")
    at = _answers(one)[-1]
    async with run.open(resume=_session(two), resume_session_at=at, fork_session=True) as client:
        await run.ask("Another two?", client)


@scenario(
    "option:resume_drops_turn option:resume option:resume_session_at option:fork_session",
    connects=False,
    script=[Text("One."), Text("Two."), Text("Another two.")],
)
async def a_turn_is_dropped(run: Run) -> None:
    one, two = await _first(run, "One?", "Two?")
    dropped = next(m.uuid for m in two if isinstance(m, UserMessage))
    async with run.open(
        resume=_session(two),
        resume_session_at=_answers(one)[-1],
        resume_drops_turn=dropped,
        fork_session=True,
    ) as client:
        await run.ask("Another two?", client)


@scenario(
    "option:resume_drops_turn",
    connects=False,
    script=[Text("One."), Text("Two."), Text("Three.")],
    shows=("Resume rejected by --resume-drops-turn",),
    masks=("stderr of a CLI that died",),
)
async def more_than_a_turn_is_not_dropped(run: Run) -> None:
    one, two, three = await _first(run, "One?", "Two?", "Three?")
    dropped = next(m.uuid for m in two if isinstance(m, UserMessage))
    await run.refused(
        resume=_session(three),
        resume_session_at=_answers(one)[-1],
        resume_drops_turn=dropped,
        fork_session=True,
    )

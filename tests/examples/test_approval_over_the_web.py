"""examples/approval_over_the_web.py: the test is the person elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from examples.running import KEY, Example, start_example
from support.hosting import model_environment, sandboxes_of

from agenthost import AgentRef
from agenthost.testing import ModelRequest, ScriptedModel, Text, ToolUse

LIMIT = 120
NAME = "approval_over_the_web.py"


@dataclass(slots=True)
class Person:
    """Has the address and the token that the example prints."""

    example: Example
    http: httpx.AsyncClient

    async def question(self) -> dict[str, Any]:
        """Return the only open question, once there is one."""
        while not (await self.example.line()).startswith("may the agent use "):
            pass
        (question,) = await self.questions()
        return question

    async def questions(self) -> list[dict[str, Any]]:
        answer = await self.http.get("/approvals")
        assert answer.status_code == 200
        return answer.json()

    async def answer(self, question: dict[str, Any], answer: object) -> int:
        """Return the status."""
        address = f"/approvals/{question['agent']}/{question['id']}"
        return (await self.http.post(address, json=answer)).status_code


@asynccontextmanager
async def approving(model: ScriptedModel, ref: Path, *arguments: str) -> AsyncGenerator[Person]:
    async with start_example(
        NAME, str(ref), *arguments, "--port", "0", env=model_environment(model, KEY)
    ) as example:
        found = re.fullmatch(r"approve at (http://\S+) with token (\S+)", await example.line())
        assert found is not None
        headers = {"authorization": f"Bearer {found[2]}"}
        async with httpx.AsyncClient(
            base_url=found[1], headers=headers, trust_env=False, timeout=None
        ) as http:
            yield Person(example, http)


def command(text: str, name: str) -> ToolUse:
    return ToolUse("Bash", {"command": f"echo {text} >> log; cat log"}, id=name)


async def test_tool_calls_are_allowed_denied_and_changed_by_another_process(tmp_path: Path) -> None:
    script = [
        command("one", "toolu_1"),
        command("two", "toolu_2"),
        command("three", "toolu_3"),
        Text("Done."),
    ]
    ref = tmp_path / "agent.ref"
    before = await sandboxes_of("local")
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(script, api_key=KEY) as model, approving(model, ref, "Go") as person:
            first = await person.question()
            assert first["id"] == "toolu_1"
            assert first["agent"] == AgentRef.from_json(ref.read_text()).agent
            assert (first["tool"], first["input"]["command"]) == ("Bash", "echo one >> log; cat log")
            assert await person.answer(first, {"allow": True}) == 204
            assert await person.answer(first, {"allow": False}) == 409  # it stays what it is

            second = await person.question()
            assert await person.answer(second, {"allow": False, "message": "not two"}) == 204

            third = await person.question()
            changed = {**third["input"], "command": "echo 3 >> log; cat log"}
            assert await person.answer(third, {"allow": True, "input": changed}) == 204

            printed = await person.example.lines_to_end()
            model.assert_played()
        results = [request.tool_results[0] for request in model.turns[1:]]
    assert [(result.text, result.is_error) for result in results] == [
        ("one", False),
        ("not two", True),
        ("one\n3", False),
    ]
    assert printed[-1].startswith("ResultMessage(")
    assert not ref.exists()
    assert await sandboxes_of("local") == before


async def test_what_is_no_answer_and_whoever_has_no_token_is_refused(tmp_path: Path) -> None:
    script = [command("one", "toolu_1"), Text("Done.")]
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(script, api_key=KEY) as model,
            approving(model, tmp_path / "agent.ref", "Go") as person,
        ):
            question = await person.question()
            for wrong in ({"id": "toolu_2"}, {"agent": "agent-other"}):
                assert await person.answer({**question, **wrong}, {"allow": True}) == 404
            answers: list[Any] = [
                None,
                [],
                {},
                {"allow": 2},
                {"allow": "true"},
                {"allow": True, "input": "ls"},
                {"allow": True, "inputs": {}},
                {"allow": True, "message": "ok"},
                {"allow": False, "message": 1},
                {"allow": False, "input": {}},
            ]
            for answer in answers:
                assert await person.answer(question, answer) == 400

            token = person.http.headers.pop("authorization")
            for headers in ({}, {"authorization": token[:-1]}, {"authorization": "Basic x"}):
                sent = httpx.Headers(headers)
                assert (await person.http.get("/approvals", headers=sent)).status_code == 401
                address = f"/approvals/{question['agent']}/{question['id']}"
                refused = await person.http.post(address, json={"allow": True}, headers=sent)
                assert refused.status_code == 401
            person.http.headers["authorization"] = token

            assert await person.questions() == [question]  # all that has changed nothing
            assert await person.answer(question, {"allow": True}) == 204
            await person.example.lines_to_end()


async def test_an_answer_that_comes_too_late_is_refused_and_the_agent_was_told_no(tmp_path: Path) -> None:
    denied, tried = anyio.Event(), anyio.Event()

    async def after(request: ModelRequest) -> Text:
        assert [(one.text, one.is_error) for one in request.tool_results] == [
            ("nobody decided in time", True)
        ]
        denied.set()
        await tried.wait()
        return Text("Well then.")

    script = [command("one", "toolu_1"), after]
    ref = tmp_path / "agent.ref"
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(script, api_key=KEY) as model,
            approving(model, ref, "Go", "--wait", "0.01") as person,
        ):
            await denied.wait()
            question = {"agent": AgentRef.from_json(ref.read_text()).agent, "id": "toolu_1"}
            assert await person.questions() == []
            assert await person.answer(question, {"allow": True}) == 409
            tried.set()
            await person.example.lines_to_end()


async def test_a_question_outlives_the_program_that_was_to_answer_it(tmp_path: Path) -> None:
    script = [[Text("Hm."), command("one", "toolu_1")], Text("Done.")]
    ref = tmp_path / "agent.ref"
    before = await sandboxes_of("local")
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(script, api_key=KEY) as model:
            async with approving(model, ref, "Go") as person:
                first = await person.question()
                old = person.http.headers["authorization"]
                await person.example.kill()
            async with approving(model, ref) as person:
                assert await person.question() == first
                assert await person.example.stop() == 0
            async with approving(model, ref) as person:
                assert await person.question() == first
                late = await person.http.get("/approvals", headers={"authorization": old})
                assert late.status_code == 401
                assert await person.answer(first, {"allow": True}) == 204
                printed = await person.example.lines_to_end()
            model.assert_played()
        assert len(model.turns) == 2
    assert model.turns[1].tool_results[0].text == "one"
    assert [line.partition("(")[0] for line in printed][-3:] == [
        "UserMessage",
        "AssistantMessage",
        "ResultMessage",
    ]
    assert not ref.exists()
    assert await sandboxes_of("local") == before


@pytest.mark.parametrize("arguments", [[], ["Go"]])
async def test_it_neither_forgets_an_agent_nor_asks_for_one_that_is_not_there(
    tmp_path: Path, arguments: list[str]
) -> None:
    ref = tmp_path / "agent.ref"
    if arguments:
        ref.write_text("{}")
    with anyio.fail_after(LIMIT):
        async with start_example(NAME, str(ref), *arguments, "--port", "0") as example:
            assert await example.process.wait() == 2

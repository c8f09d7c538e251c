"""A person decides over the web what the agent may do. The question outlives this program.

    pip install starlette uvicorn
    export ANTHROPIC_API_KEY=...
    python examples/approval_over_the_web.py agent.ref "Write a poem into poem.txt"

It prints an address and a token. Elsewhere:

    curl -H "Authorization: Bearer $TOKEN" $ADDRESS/approvals
    curl -H "Authorization: Bearer $TOKEN" $ADDRESS/approvals/$AGENT/$ID -d '{"allow": true}'
    ... -d '{"allow": true, "input": {"command": "ls"}}'        but with another input
    ... -d '{"allow": false, "message": "not on a Sunday"}'

Stopped, deployed anew or killed while a question is open, it leaves the agent waiting. Start it again with
the same file, and without a prompt: it asks again.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import uvicorn
from claude_agent_sdk import (
    ClaudeAgentOptions,
    PermissionResult,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
)
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agenthost import AgentRef, HostedAgent, SandboxSpec

LIFETIME = 24 * 3600.0  # seconds that the sandbox is there, whatever happens to this program


@dataclass
class Question:
    """A tool call that waits for somebody to decide."""

    id: str
    tool: str
    input: dict[str, Any]
    answer: PermissionResult | None = None
    answered: anyio.Event = field(default_factory=anyio.Event)


class Approvals:
    """The questions of one agent."""

    def __init__(self, wait: float) -> None:
        self.open: dict[str, Question] = {}
        self._wait = wait
        self._closed: set[str] = set()

    async def can_use_tool(
        self, tool: str, tool_input: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResult:
        """Wait for a decision. The agent calls this, and cancels it when it wants no answer any more."""
        # The id of the tool call: the same when another process asks the question again.
        question = Question(str(context.tool_use_id), tool, tool_input)
        self.open[question.id] = question
        print(f"may the agent use {tool}? {question.id} {json.dumps(tool_input)}", flush=True)
        try:
            with anyio.move_on_after(self._wait):
                await question.answered.wait()
        finally:
            self._close(question)
        return question.answer or PermissionResultDeny(message="nobody decided in time")

    def decide(self, question_id: str, answer: PermissionResult) -> None:
        """Answer a question, once."""
        question = self.open.get(question_id)
        if question is None:
            if question_id in self._closed:
                raise HTTPException(409, "it was answered before, or the agent waits for it no more")
            raise HTTPException(404, "the agent has asked no such question")
        self._close(question)
        question.answer = answer
        question.answered.set()

    def _close(self, question: Question) -> None:
        self.open.pop(question.id, None)
        self._closed.add(question.id)


# ---- the web


def make_app(agent: HostedAgent, approvals: Approvals, token: str) -> Starlette:
    """Return the web application for one agent."""
    agent_name = agent.ref.agent

    def authorize(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "the token is wrong")

    async def show(request: Request) -> Response:
        authorize(request)
        return JSONResponse(
            [
                {"agent": agent_name, "id": question.id, "tool": question.tool, "input": question.input}
                for question in approvals.open.values()
            ]
        )

    async def decide(request: Request) -> Response:
        authorize(request)
        # An answer is for one question of one agent: it never falls to another one.
        if request.path_params["agent"] != agent_name:
            raise HTTPException(404, "there is no such agent here")
        approvals.decide(request.path_params["id"], read_answer(await request.body()))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/approvals", show),
            Route("/approvals/{agent}/{id}", decide, methods=["POST"]),
        ]
    )


class Allow(BaseModel, extra="forbid"):
    """Yes; with an input that takes the place of what the agent wanted."""

    allow: Literal[True]
    input: dict[str, Any] | None = None


class Deny(BaseModel, extra="forbid"):
    """No, and what the agent is told."""

    allow: Literal[False]
    message: str = "it was denied"


ANSWER: TypeAdapter[Allow | Deny] = TypeAdapter(Allow | Deny)


def read_answer(body: bytes) -> PermissionResult:
    """Return what somebody decided. What is no answer is refused, and so is one with more in it."""
    try:
        answer = ANSWER.validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, str(error)) from error
    if isinstance(answer, Allow):
        return PermissionResultAllow(updated_input=answer.input)
    return PermissionResultDeny(message=answer.message)


# ---- the agent


async def main(ref_file: Path, prompt: str | None, port: int, wait: float) -> None:
    """Run one prompt, or what is left of it."""
    approvals = Approvals(wait)
    options = ClaudeAgentOptions(can_use_tool=approvals.can_use_tool)
    if prompt is None:
        agent = HostedAgent.attach(load(ref_file), options=options)
    else:
        agent = HostedAgent(options, provider="local", spec=SandboxSpec(max_lifetime=LIFETIME))
    token = secrets.token_urlsafe()
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"approve at http://127.0.0.1:{listener.getsockname()[1]} with token {token}", flush=True)
        async with agent:
            if prompt is not None:
                await agent.query(prompt)
                await agent.finish_input()  # so it ends by itself when it has answered
                save(ref_file, agent.ref)
            server = uvicorn.Server(uvicorn.Config(make_app(agent, approvals, token), log_level="warning"))
            done = anyio.Event()
            try:
                # The server stops at these signals and then raises them again, which would end this program
                # before it has left the agent.
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(follow, agent, ref_file, done, server)
                        await server.serve(sockets=[listener])
                        tasks.cancel_scope.cancel()
            finally:
                if done.is_set():
                    os.unlink(ref_file)
                else:
                    await agent.detach()  # leaving the block would end it; being killed does not


async def follow(agent: HostedAgent, ref_file: Path, done: anyio.Event, server: uvicorn.Server) -> None:
    """Print what the agent says, to its end. The file always holds how far that has gone."""
    async for message in agent.receive_messages():
        print(message, flush=True)
        save(ref_file, agent.ref)
    done.set()
    server.should_exit = True


def load(path: Path) -> AgentRef:
    """Return which agent a file names."""
    return AgentRef.from_json(path.read_text())


def save(path: Path, ref: AgentRef) -> None:
    """Write the file so that it is there as a whole, whenever this program is killed."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(ref.to_json())
    os.replace(fresh, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ref_file", type=Path, help="where it is kept which agent works, while it does")
    parser.add_argument(
        "prompt", nargs="?", help="what a new agent shall do; else the one of the file goes on"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--wait", type=float, default=LIFETIME / 2, help="seconds until a question is denied")
    arguments = parser.parse_args()
    if (arguments.prompt is None) != arguments.ref_file.exists():
        parser.error(
            "a new agent needs a prompt and a file that is not there; an old one its file, no prompt"
        )
    anyio.run(main, arguments.ref_file, arguments.prompt, arguments.port, arguments.wait)

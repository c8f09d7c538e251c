"""One agent and any number of browsers: its messages are server-sent events, prompts come by POST.

    pip install starlette uvicorn
    export ANTHROPIC_API_KEY=...
    python examples/web_sse.py      # prints the address to open

Each browser reads at its own pace. One that lost its connection goes on behind the last event that it saw:
the browser itself sends that number, as Last-Event-ID.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import anyio
import uvicorn
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from agenthost import AgentHostError, AgentRef, HostedAgent, message_to_json
from agenthost.errors import ReplayGapError

# Of this run alone: so no browser comes back with the event numbers of another agent.
TOKEN = secrets.token_urlsafe()

PING_SECONDS = 15.0  # proxies cut connections that are silent for longer
TICK_SECONDS = 1.0  # how soon an event stream notices that the server stops

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>An agent</title>
<ol id="log"></ol>
<form><input name="prompt" size="80" required autofocus> <button>Send</button></form>
<script>
  // The token stands behind the # of the address, which a browser sends to nobody. An EventSource cannot send
  // headers, so it gets a cookie; the cookie lets read and nothing else.
  const token = location.hash.slice(1)
  document.cookie = `agent_token=${token}; path=/events; SameSite=Strict`

  const show = text => {
    const item = document.createElement("li")
    item.textContent = text
    document.getElementById("log").append(item)
  }

  const source = new EventSource("/events")  // connects again by itself, with Last-Event-ID
  source.addEventListener("AssistantMessage", event => {
    for (const block of JSON.parse(event.data).content) {
      if (block.$type === "TextBlock") show(block.text)
      if (block.$type === "ToolUseBlock") show(`${block.name} ${JSON.stringify(block.input)}`)
    }
  })
  source.addEventListener("Gap", event => show(`something is missing here: ${JSON.parse(event.data)}`))
  source.addEventListener("AgentEnded", event => {
    source.close()
    show(`the agent has ended: ${JSON.parse(event.data)}`)
  })

  document.forms[0].addEventListener("submit", async event => {
    event.preventDefault()
    const input = event.target.elements.prompt
    const sent = await fetch("/prompt", {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      body: JSON.stringify({ prompt: input.value }),
    })
    show(sent.ok ? `> ${input.value}` : await sent.text())
    input.value = ""
  })
</script>
"""


# ---- the agent


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Run one agent as long as the server runs."""
    # Nothing the agent does reaches beyond its sandbox, so it need not ask.
    options = ClaudeAgentOptions(permission_mode="bypassPermissions")
    async with HostedAgent(options, provider="local") as agent, anyio.create_task_group() as tasks:
        app.state.agent = agent
        tasks.start_soon(keep_up, agent)
        yield
        tasks.cancel_scope.cancel()


async def keep_up(agent: HostedAgent) -> None:
    """Read what the agent says, so that it never waits for the slowest browser."""
    try:
        async for _ in agent.receive_messages():
            pass
    except (AgentHostError, ClaudeSDKError) as error:
        print(f"the agent has ended: {error}", file=sys.stderr)  # the browsers hear of it, too


# ---- to the browsers


async def server_sent_events(ref: AgentRef, after: int) -> AsyncGenerator[str]:
    """Yield the agent's messages behind the event ``after``, from the beginning on where that is 0."""
    yield "retry: 1000\n\n"  # milliseconds until a browser comes back
    start: int | str = after
    while True:
        try:
            # An observer of its own for each browser: it reads at its own pace and stalls nobody.
            observer = HostedAgent.attach(ref, role="observer", after=start)
            async with observer, aclosing(events_of(observer)) as found:
                async for event in found:
                    yield event
            return
        except ReplayGapError as gap:
            # It was away for longer than the sandbox keeps messages. It is told, and gets what there is.
            yield special_event("Gap", str(gap))
            start = "oldest"
        except (AgentHostError, ClaudeSDKError) as error:
            yield special_event("AgentEnded", str(error))
            return


async def events_of(observer: HostedAgent) -> AsyncGenerator[str]:
    """Yield what one observer reads, and a comment where it reads nothing for long."""
    messages = observer.receive_messages()
    silent = 0.0
    while not server.should_exit:
        message = None
        with anyio.move_on_after(TICK_SECONDS) as tick:
            message = await anext(messages, None)  # whatever the clock does, no message is lost here
        if tick.cancelled_caught:
            silent += TICK_SECONDS
            if silent >= PING_SECONDS:
                silent = 0.0
                yield ": still here\n\n"
        elif message is None:
            break
        else:
            silent = 0.0
            # One line of JSON each, whatever is in it: it can be sent as it is.
            data = message_to_json(message)
            yield f"id: {observer.cursor.seq}\nevent: {type(message).__name__}\ndata: {data}\n\n"
    yield special_event("AgentEnded", "it is done, or the server stops")


def special_event(name: str, text: str) -> str:
    """Return an event that is no message: without an id, so a browser resumes behind the last message."""
    return f"event: {name}\ndata: {json.dumps(text)}\n\n"


class EventStream(StreamingResponse):
    """A response that leaves the generator's blocks as soon as the browser has gone, not some time later."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str]) -> None:
        # The second header keeps nginx from collecting events before it hands them on.
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self.events = events

    async def stream_response(self, send: Send) -> None:
        """Send the events until there are no more, or until this is cancelled."""
        async with aclosing(self.events):
            await super().stream_response(send)


# ---- requests


def authorize(request: Request, *, cookie: str | None = None) -> None:
    """Refuse whoever does not know the token."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if cookie is not None and not given:
        given = request.cookies.get(cookie, "")
    if not secrets.compare_digest(given.encode(), TOKEN.encode()):
        raise HTTPException(401, "the token is wrong")


async def page(_: Request) -> Response:
    """GET /"""
    return HTMLResponse(PAGE)


async def events(request: Request) -> Response:
    """GET /events"""
    authorize(request, cookie="agent_token")
    after = request.headers.get("last-event-id", "0")
    if not (after.isascii() and after.isdigit()):
        raise HTTPException(400, "Last-Event-ID must be the id of an event")
    agent: HostedAgent = request.app.state.agent
    return EventStream(server_sent_events(agent.ref, int(after)))


async def prompt(request: Request) -> Response:
    """POST /prompt with {"prompt": "text"}"""
    authorize(request)  # not by cookie: a page of another port of this machine could use that
    try:
        text = (await request.json())["prompt"]
    except (ValueError, LookupError, TypeError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise HTTPException(400, 'send {"prompt": "what the agent shall do"}')
    agent: HostedAgent = request.app.state.agent
    try:
        await agent.query(text)
    except (AgentHostError, ClaudeSDKError) as error:
        raise HTTPException(503, f"the agent takes no prompts any more: {error}") from error
    return Response(status_code=202)


app = Starlette(
    routes=[Route("/", page), Route("/events", events), Route("/prompt", prompt, methods=["POST"])],
    lifespan=lifespan,
)
# A browser that takes nothing any more is not waited for.
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))


def main(port: int = 8000) -> None:
    """Serve on this machine alone."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"open http://127.0.0.1:{listener.getsockname()[1]}/#{TOKEN}", flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

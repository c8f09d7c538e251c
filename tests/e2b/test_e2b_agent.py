"""A hosted agent at E2B: the real CLI, the vendor's real client, a scripted model."""

from __future__ import annotations

import json

import anyio
import httpx
import pytest
from claude_agent_sdk import ClaudeAgentOptions
from support.hosting import KEY, scripted
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import SandboxSpec
from agenthost.testing import Text, ToolUse
from agenthost.testing.emulators.e2b import Emulator

LIMIT = 180
TRAFFIC = "e2b-traffic-access-token"


@pytest.mark.full
async def test_the_agents_way_to_the_model_is_forwarded_to_the_internet_and_refuses_strangers(
    provider: E2BProvider, e2b: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    options = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=5)
    spec = SandboxSpec(provider_options={"public_ports": True})
    script = (ToolUse("Bash", {"command": "id -un; echo $ANTHROPIC_BASE_URL"}), Text("It is done."))
    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, *script) as model,
            HostedAgent(options, provider=provider, spec=spec) as agent,
        ):
            await agent.query("Where is the model?")
            messages = [message async for message in agent.receive_response()]
            (said,) = results(messages)
            user, url = said.split()
            assert (user, texts(messages)) == ("user", ["It is done."])
            assert agent.sandbox is not None
            box = e2b.box(agent.sandbox.id)
            port = url.rstrip("/").rpartition(":")[2]
            route = {"e2b-sandbox-id": box.id, "e2b-sandbox-port": port}
            body = json.dumps({"model": "x", "messages": []}).encode()
            asked = len(model.requests)
            async with httpx.AsyncClient(base_url=e2b.options["sandbox_url"]) as stranger:
                for key in ("", "sk-ant-api03-guessed", KEY):
                    headers = {**route, "x-api-key": key, "content-type": "application/json"}
                    answer = await stranger.post("/v1/messages", headers=headers, content=body)
                    assert answer.status_code == 401
                    assert KEY not in answer.text
            assert len(model.requests) == asked  # nothing of it has come to the host


async def test_ports_are_closed_to_the_public_unless_asked_for(provider: E2BProvider, e2b: Emulator) -> None:
    box = await provider.create(SandboxSpec())
    try:
        route = {"e2b-sandbox-id": box.id, "e2b-sandbox-port": "8000"}
        async with (
            box.spawn(["python3", "-um", "http.server", "--bind", "127.0.0.1", "8000"]) as server,
            httpx.AsyncClient(base_url=e2b.options["sandbox_url"]) as stranger,
        ):
            await server.receive_stdout()
            assert (await stranger.get("/", headers=route)).status_code == 403
            assert (await stranger.get("/", headers={**route, TRAFFIC: "guessed"})).status_code == 403
            # E2B gives its token to whoever has the API key.
            known = {**route, TRAFFIC: e2b.box(box.id).traffic_token}
            assert (await stranger.get("/", headers=known)).status_code == 200
    finally:
        await box.terminate()

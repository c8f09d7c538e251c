"""Who may call the Worker, and what it writes down of that."""

from __future__ import annotations

import httpx
import pytest
from cloudflare_worker.calls import KEY, MARKER, ROOT, Calls, code_of
from cloudflare_worker.scripted_engine import Program, ScriptedEngine

from agenthost.testing.emulators.cloudflare.worker import running_worker

# Calls of agenthost, of the bridge of @cloudflare/sandbox, and what neither knows.
CALLS = [
    ("GET", ROOT),
    ("PUT", f"{ROOT}/sandboxes/abc"),
    ("GET", f"{ROOT}/sandboxes"),
    ("DELETE", f"{ROOT}/sandboxes/abc"),
    ("POST", f"{ROOT}/sandboxes/abc/exec"),
    ("GET", f"{ROOT}/sandboxes/abc/guest/healthz"),
    ("GET", "/health"),
    ("POST", "/v1/sandbox"),
    ("POST", "/v1/sandbox/abc/exec"),
    ("GET", "/v1/sandbox/abc/running"),
    ("GET", f"/v1/openapi.json?token={KEY}"),
    ("POST", "/v1/pool/prime"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize("key", [None, "", " "])
async def test_a_worker_without_a_key_refuses_everything(
    engine: ScriptedEngine, engine_url: str, key: str | None
) -> None:
    async with running_worker(engine_url, key) as running, httpx.AsyncClient() as http:
        for method, path in CALLS:
            for headers in ({}, {"authorization": "Bearer"}, {"authorization": f"Bearer {KEY}"}):
                answer = await http.request(method, f"{running.url}{path}", headers=headers)
                assert (answer.status_code, code_of(answer)) == (503, "not_configured"), path
    assert engine.calls == []


async def test_without_the_key_nothing_answers(worker: Calls, engine: ScriptedEngine) -> None:
    async with httpx.AsyncClient() as http:
        for method, path in CALLS:
            for header in ("", "Bearer", "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", KEY):
                headers = {"authorization": header} if header else {}
                answer = await http.request(method, f"{worker.running.url}{path}", headers=headers)
                assert (answer.status_code, code_of(answer)) == (401, "unauthorized"), (path, header)
    assert engine.calls == []


async def test_with_the_key_the_worker_describes_itself_and_the_bridge_answers(engine_url: str) -> None:
    opened = running_worker(
        engine_url,
        KEY,
        egress="closed",
        allowed_hosts=["pypi.org", "Example.com"],
        max_lifetime=3600.0,
        image="agenthost-sdk-1",
    )
    async with opened as running, Calls(running) as calls:
        assert (await calls.http.get(ROOT)).json() == {
            "agenthost": 1,
            "sandbox": "0.12.10",
            "max_lifetime": 3600,
            "egress": "closed",
            "allowed": ["example.com", "pypi.org"],
            "image": "agenthost-sdk-1",
        }
        assert (await calls.http.get("/health")).json() == {"ok": True}
        scheme = {"authorization": f"bearer {KEY}"}
        assert (await calls.http.get(ROOT, headers=scheme)).status_code == 200


async def test_a_key_that_was_set_from_a_pipe_may_end_with_a_newline(engine_url: str) -> None:
    async with running_worker(engine_url, f"{KEY}\n") as running, Calls(running) as calls:
        assert (await calls.http.get(ROOT)).status_code == 200


async def test_egress_that_is_not_valid_is_refused_rather_than_open(engine_url: str) -> None:
    async with running_worker(engine_url, KEY, egress="close") as running, Calls(running) as calls:
        answer = await calls.http.get(ROOT)
        assert (answer.status_code, code_of(answer)) == (503, "not_configured")


async def test_nothing_secret_is_printed(worker: Calls, engine: ScriptedEngine) -> None:
    secret = "a-value-that-is-secret"

    async def program(it: Program) -> int | None:
        await it.say("stdout", secret.encode())
        return None

    engine.program = program
    await worker.made("abc")
    await worker.run("abc", ["x", secret], env={"TOKEN": secret})
    await worker.write("abc", "/workspace/file", secret.encode())
    headers = {"x-agenthost-token": secret, "x-agenthost-marker": MARKER}
    path = f"{ROOT}/sandboxes/abc/guest/{secret}"
    await worker.http.post(path, content=secret.encode(), headers=headers)
    engine.refused["running"] = (500, secret)  # which the stub does not expect: the Worker itself fails
    for _ in range(2):
        failed = await worker.run("abc", ["x", secret], env={"TOKEN": secret})
        assert (failed.status, failed.code) == (500, "internal_error")
    printed = worker.running.log.read_text()
    assert '"component":"agenthost","method":"POST","error":"Error"' in printed
    assert secret not in printed
    assert KEY not in printed

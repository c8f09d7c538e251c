"""The emulator behaves as Vercel does, to Vercel's own client too, and refuses what it does not do."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from support.waiting import until_true
from vercel import sandbox as vendor
from vercel.sandbox import SandboxClient, SandboxCredentials, SandboxServiceOptions

from agenthost.testing.emulators.vercel import Emulator, emulator

LIMIT = 60


@pytest.fixture(scope="module")
async def plain(anyio_backend: str) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as Vercel."""
    del anyio_backend
    async with emulator(creates_at_once=1000) as running:
        yield running


def client_of(vercel: Emulator, **headers: str) -> httpx.AsyncClient:
    """Return a client of HTTP with the account."""
    given = {"authorization": f"Bearer {vercel.options['token']}", **headers}
    query = {"teamId": vercel.options["team_id"]}
    return httpx.AsyncClient(base_url=vercel.options["base_url"], headers=given, params=query, timeout=LIMIT)


def vendor_client(vercel: Emulator) -> SandboxClient:
    """Return Vercel's own client."""

    async def credentials() -> SandboxCredentials:
        return SandboxCredentials(
            token=vercel.options["token"],
            team_id=vercel.options["team_id"],
            project_id=vercel.options["project_id"],
        )

    options = SandboxServiceOptions(base_url=vercel.options["base_url"], credentials_factory=credentials)
    return SandboxClient.create(options=options)


async def made(vercel: Emulator, client: httpx.AsyncClient, **fields: object) -> tuple[str, str]:
    """Make a sandbox that runs; return its name, and the beginning of calls about its session."""
    body = {"projectId": vercel.options["project_id"], "persistent": False, **fields}
    answer = await client.post("/v3/sandboxes", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    name = told["sandbox"]["name"]
    await client.get(f"/v2/sandboxes/{name}", params={"projectId": vercel.options["project_id"]})
    return name, f"/v2/sandboxes/sessions/{told['session']['id']}"


async def program(client: httpx.AsyncClient, session: str, *argv: str, **more: object) -> str:
    """Start a program; return the beginning of calls about it."""
    body = {"command": argv[0], "args": argv[1:], **more}
    answer = await client.post(f"{session}/cmd", json=body)
    assert answer.status_code == 200, answer.text
    return f"{session}/cmd/{answer.json()['command']['id']}"


async def log(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Return a whole log."""
    answer = await client.get(f"{path}/logs")
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_vercels_own_client_makes_uses_and_ends_a_sandbox(plain: Emulator) -> None:
    client = vendor_client(plain)
    try:
        with anyio.fail_after(LIMIT):
            box = await client.create_sandbox(
                execution_time_limit=600,
                env={"A": "1"},
                resources=vendor.SandboxResources(vcpus=2),
                tags={"app": "x"},
                persistent=True,
            )
            done = await box.run_process(
                "sh", ["-c", "echo out $A; echo err >&2; exit 3"], capture_output=True
            )
            assert (done.returncode, done.stdout, done.stderr) == (3, "out 1\n", "err\n")
            process = await box.create_process("cat", [], stdin=subprocess.PIPE)
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b"x" * 1_500_000 + b"\n")  # in pieces, each at its offset
            assert len(await process.stdout.readline()) == 1_500_001
            await process.stdin.aclose()
            assert await process.wait() == 0
            await box.fs.write_bytes("/vercel/a b.bin", b"\xff\x00data", mode=0o755)
            assert await box.fs.read_bytes("/vercel/a b.bin") == b"\xff\x00data"
            with pytest.raises(vendor.SandboxPathNotFoundError):
                await box.fs.read_bytes("/nope")
            with pytest.raises(vendor.SandboxApiError, match="already exists"):
                await client.create_sandbox(name=box.name)
            with pytest.raises(vendor.SandboxApiError, match="executable_not_found"):
                await box.run_process("no-such-program")
            await box.extend_execution_time_limit(60)
            await box.stop()
            # Its next call resumes the sandbox by itself, on another machine: its files are there.
            done = await box.run_process("ls", ["/vercel"], capture_output=True)
            assert done.stdout == "a b.bin\n"
            assert [one.name for one in plain.boxes.all.values()].count(box.name) == 2
            await box.destroy()
    finally:
        await client.aclose()
    assert plain.unknown == []


async def test_a_log_is_text_that_comes_from_its_beginning_with_every_connection(plain: Emulator) -> None:
    async with client_of(plain) as client:
        _, session = await made(plain, client)
        path = await program(client, session, "printf", r"a\377b\n")
        assert (await client.get(path, params={"wait": "true"})).json()["command"]["exitCode"] == 0
        for _ in range(2):
            events = await log(client, path)
            assert "".join(event["data"] for event in events) == "a\ufffdb\n"
            assert len(events) > 1  # in any pieces


async def test_a_stream_is_cut_after_five_minutes_and_the_program_runs_on(plain: Emulator) -> None:
    async with client_of(plain) as client:
        _, session = await made(plain, client, timeout=3600_000)
        path = await program(client, session, "sleep", "600")
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:

                async def follow() -> None:
                    with pytest.raises(httpx.RemoteProtocolError):
                        await client.get(f"{path}/logs")

                tasks.start_soon(follow)
                await until_true(lambda: any(call.endswith(f"{path}/logs") for call in plain.calls))
                plain.clock.advance(301)
        assert (await client.get(path)).json()["command"]["exitCode"] is None
        await client.post(f"{path}/kill", json={"signal": 9})
        assert (await client.get(path, params={"wait": "true"})).json()["command"]["exitCode"] == 137


async def test_input_that_is_not_read_is_a_504_with_what_was_accepted(plain: Emulator) -> None:
    async with client_of(plain) as client:
        _, session = await made(plain, client, timeout=3600_000)
        path = await program(client, session, "sleep", "600", attachStdin=True)
        accepted, answer = 0, await client.post(f"{path}/stdin", json={})
        with anyio.fail_after(LIMIT):
            while answer.status_code == 200:
                data = b64encode(bytes(500_000)).decode()
                answer = await client.post(f"{path}/stdin", json={"data": data, "offset": accepted})
                accepted = answer.json().get("bytesWritten", accepted)
        assert answer.status_code == 504
        assert answer.json()["error"]["bytesWritten"] >= accepted
        too_much = await client.post(f"{path}/stdin", json={"data": b64encode(bytes(800_000)).decode()})
        assert too_much.status_code == 413
        gap = await client.post(f"{path}/stdin", json={"data": "eA==", "offset": 10**9})
        assert gap.status_code == 400
        await client.post(f"{path}/kill", json={"signal": 9})
        await client.get(path, params={"wait": "true"})
        ended = await client.post(f"{path}/stdin", json={})
        assert (ended.status_code, ended.json()["error"]["code"]) == (404, "command_not_found_or_exited")
        without = await program(client, session, "sleep", "600")
        refused = await client.post(f"{without}/stdin", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "command_stdin_unavailable")


async def test_a_stopped_sandbox_answers_410_and_is_resumed_only_where_there_is_a_snapshot(
    plain: Emulator,
) -> None:
    async with client_of(plain) as client:
        name, session = await made(plain, client)
        path = await program(client, session, "echo", "once")
        await client.get(path, params={"wait": "true"})
        await client.post(f"{session}/stop", json={})
        assert (await client.get(f"{path}/logs")).json()["error"]["code"] == "sandbox_stopped"
        query = {"projectId": plain.options["project_id"], "resume": "true"}
        resumed = await client.get(f"/v2/sandboxes/{name}", params=query)
        assert (resumed.status_code, resumed.json()["error"]["code"]) == (400, "snapshot_not_found")


async def test_a_new_sandbox_accepts_nothing_until_a_look_finds_it_running(plain: Emulator) -> None:
    async with client_of(plain) as client:
        told = (await client.post("/v3/sandboxes", json={"projectId": plain.options["project_id"]})).json()
        assert told["session"]["status"] == "pending"
        answer = await client.post(
            f"/v2/sandboxes/sessions/{told['session']['id']}/cmd", json={"command": "true"}
        )
        assert answer.status_code == 422


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tags": dict.fromkeys("abcdef", "1")}, "more than 5"),
        ({"tags": {"a": "x" * 257}}, "longer than 256"),
        ({"timeout": 25 * 3600_000}, "`timeout` should be <= 86400000"),
        ({"timeout": 10}, "`timeout` should be >= 1000"),
        ({"name": "a b"}, "`name` should match"),
        ({"resources": {"vcpus": 3}}, "even number"),
        ({"ports": [80]}, "`ports` should be"),
        ({"ports": list(range(2000, 2016))}, "more than 15"),
    ],
)
async def test_what_vercel_does_not_accept_is_a_400(
    plain: Emulator, fields: dict[str, object], words: str
) -> None:
    async with client_of(plain) as client:
        body = {"projectId": plain.options["project_id"], **fields}
        answer = await client.post("/v3/sandboxes", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_a_list_is_filtered_by_one_tag_or_by_the_beginning_of_names_that_it_is_sorted_by(
    plain: Emulator,
) -> None:
    project = plain.options["project_id"]
    async with client_of(plain) as client:
        name, _ = await made(plain, client, name="web-1", tags={"team": "a:b"})

        async def names(query: dict[str, Any]) -> Any:
            answer = await client.get("/v2/sandboxes", params={"project": project, **query})
            found = answer.json()
            return (
                [one["name"] for one in found["sandboxes"]] if answer.status_code == 200 else found["error"]
            )

        assert await names({"tags": "team:a:b"}) == [name]
        assert await names({"tags": "team:a"}) == []
        assert await names({"namePrefix": "web-", "sortBy": "name"}) == [name]
        assert "only valid when" in (await names({"namePrefix": "web-"}))["message"]
        assert "Only one tag filter" in (await names({"tags": ["a:b", "c:d"]}))["message"]
        assert "<= 50" in (await names({"limit": 51}))["message"]


async def test_calls_and_fields_that_it_does_not_know_are_refused_loudly(plain: Emulator) -> None:
    async with client_of(plain) as client:
        forked = await client.post("/v2/sandboxes/web/fork", json={})
        assert forked.status_code == 501
        assert "does not know the call POST /api/v2/sandboxes/web/fork" in forked.text
        mounted = await client.post(
            "/v3/sandboxes", json={"projectId": plain.options["project_id"], "mounts": {}}
        )
        assert (mounted.status_code, "mounts" in mounted.text) == (501, True)
    assert plain.unknown == ["POST /api/v2/sandboxes/web/fork"]
    plain.unknown.clear()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"projectId": 5}'])
async def test_a_bad_request_is_a_refusal_and_the_emulator_lives_on(plain: Emulator, body: bytes) -> None:
    async with client_of(plain, **{"content-type": "application/json"}) as client:
        assert (await client.post("/v3/sandboxes", content=body)).status_code in (400, 404)
        wrong = await client.get("/v2/sandboxes", headers={"authorization": "Bearer other"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (403, "forbidden")
        query = {"project": plain.options["project_id"]}
        assert (await client.get("/v2/sandboxes", params=query)).status_code == 200


async def test_sandboxes_are_made_as_often_as_the_plan_allows() -> None:
    async with emulator(creates_at_once=1, creates_each_second=0.1) as vercel, client_of(vercel) as client:
        await made(vercel, client)
        answer = await client.post("/v3/sandboxes", json={"projectId": vercel.options["project_id"]})
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)

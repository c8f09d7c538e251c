"""What the adapter asks of Vercel, exactly, held against what is known of its API."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest
from emulators.recorder import Recorded, recorder
from support.package_index import PackageIndex

from agenthost.errors import NameTakenError, SandboxNotFoundError
from agenthost.link.client import GuestSandbox
from agenthost.providers.vercel.backend import VercelBackend
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.vercel import Emulator, emulator

SPEC = Path(__file__).parents[3] / "shared" / "specs" / "vercel_sandbox_rest_endpoints.json"
# What is answered beyond 200: by the vendor's pages on its API of October 2026.
STATUSES = {200, 201, 400, 404, 410}
EVERY_SANDBOX = {
    "createdAt",
    "currentSessionId",
    "name",
    "persistent",
    "status",
    "statusUpdatedAt",
    "updatedAt",
}
EVERY_SESSION = {
    *("createdAt", "cwd", "id", "memory", "projectId", "region", "requestedAt", "runtime"),
    *("sourceSandboxName", "status", "timeout", "updatedAt", "vcpus"),
}
EVERY_SNAPSHOT = {"id", "sourceSessionId", "region", "status", "sizeBytes", "createdAt", "updatedAt"}


async def life(vercel: Emulator) -> tuple[GuestSandbox, list[Recorded]]:
    """Make a sandbox, use and end it; return it with all requests."""
    inject = HeaderInjection(host="api.anthropic.com", header="x-api-key", secret="sk-ant-of-this-test")
    network = NetworkPolicy.allow(["api.anthropic.com", "*.Example.org"])
    spec = SandboxSpec(network=network, inject=(inject,), lease=300, max_lifetime=600, region="fra1")
    async with recorder(vercel) as (url, requests):
        given: dict[str, Any] = {**vercel.options, "base_url": f"{url}/api"}
        async with VercelProvider(**given) as provider:
            box = await provider.create(spec)
            backend = box.backend
            assert isinstance(backend, VercelBackend)
            assert (await box.exec(["echo", "here"])).stdout == b"here\n"
            await backend.extend(500)
            assert [info.id async for info in provider.list()] == [box.id]
            with pytest.raises(NameTakenError):
                await provider.create(SandboxSpec(name=box.name))
            await box.terminate()
            with pytest.raises(SandboxNotFoundError):
                await provider.reach(box.id)
    return box, requests


def one(requests: list[Recorded], method: str, end: str) -> Recorded:
    """Return the first request of a kind."""
    return next(item for item in requests if item.method == method and re.search(f"{end}$", item.path))


async def test_each_request_has_the_shape_that_vercel_takes(vercel_snapshot: dict[str, Path]) -> None:
    async with emulator(snapshots=vercel_snapshot) as vercel:
        box, requests = await life(vercel)
        name, _, session = box.id.partition(".")
        (snapshot,) = vercel.snapshots.all
    project, team = vercel.options["project_id"], vercel.options["team_id"]
    for item in requests:
        assert item.headers["authorization"] == f"Bearer {vercel.options['token']}"
        assert item.query["teamId"] == team
        assert item.path.startswith("/api/v")
    created = one(requests, "POST", "/api/v3/sandboxes").values
    tags = created.pop("tags")
    assert created == {
        "projectId": project,
        "name": name,
        "source": {"type": "snapshot", "snapshotId": snapshot},
        "timeout": 300_000,
        "persistent": False,
        "resources": {"vcpus": 2, "memory": 4096},
        "region": "fra1",
        "networkPolicy": {
            "allow": {
                "api.anthropic.com": [{"transform": [{"headers": {"x-api-key": "sk-ant-of-this-test"}}]}],
                "*.example.org": [],
            }
        },
    }
    assert tags["agenthost-provider"] == "vercel"
    assert len(tags) <= 5
    assert all(len(value) <= 256 for value in tags.values())
    sessions = f"/api/v2/sandboxes/sessions/{session}"
    written = one(requests, "POST", f"{sessions}/fs/write")
    assert (written.headers["content-type"], written.headers["x-cwd"]) == ("application/gzip", "/")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(written.body))) as archive:
        first, *rest = archive.getmembers()
    assert (first.name, first.mode, first.isdir()) == ("vercel/.agenthost", 0o700, True)
    assert {entry.mode for entry in rest} == {0o600}
    assert all(entry.name.startswith("vercel/.agenthost/") for entry in rest)
    program = one(requests, "POST", f"{sessions}/cmd").values
    assert set(program) == {"command", "args", "env", "attachStdin"}
    assert program["attachStdin"] is True
    log = one(requests, "GET", r"/cmd/cmd_\w+/logs")
    assert log.body == b""
    typed = one(requests, "POST", r"/cmd/cmd_\w+/stdin").values
    assert set(typed) == {"data", "offset"}
    assert typed["offset"] == 0
    assert one(requests, "POST", r"/cmd/cmd_\w+/kill").values == {"signal": 9}
    assert set(one(requests, "POST", f"{sessions}/extend-timeout").values) == {"duration"}
    listing = one(requests, "GET", "/api/v2/sandboxes").query
    assert listing == {
        "teamId": team,
        "project": project,
        "limit": "50",
        "tags": "agenthost-provider:vercel",
    }
    looked = one(requests, "GET", f"/api/v2/sandboxes/{name}").query
    assert looked == {"teamId": team, "projectId": project, "resume": "false"}
    assert one(requests, "POST", f"{sessions}/stop").values == {}
    assert one(requests, "DELETE", f"/api/v2/sandboxes/{name}").query == {
        "teamId": team,
        "projectId": project,
    }


@pytest.mark.parametrize(
    ("network", "inject", "policy"),
    [
        (None, False, None),
        (NetworkPolicy.open(), False, None),
        (NetworkPolicy.none(), False, {"mode": "deny-all"}),
        (NetworkPolicy.allow(["pypi.org"]), False, {"allow": {"pypi.org": []}}),
        (
            None,
            True,
            {"allow": {"*": [], "a.example.org": [{"transform": [{"headers": {"x-key": "s3cret"}}]}]}},
        ),
    ],
    ids=["default", "open", "none", "allow", "inject"],
)
async def test_a_policy_travels_as_vercels_firewall_has_it(
    vercel: Emulator, provider: VercelProvider, network: NetworkPolicy | None, inject: bool, policy: object
) -> None:
    header = HeaderInjection(host="A.example.org", header="x-key", secret="s3cret")
    box = await provider.create(SandboxSpec(network=network, inject=(header,) if inject else ()))
    try:
        assert vercel.box(box.id).body.get("networkPolicy") == policy
    finally:
        await box.terminate()


async def bake(vercel: Emulator) -> list[Recorded]:
    """Bake, twice; return all requests."""
    async with recorder(vercel) as (url, requests):
        given: dict[str, Any] = {**vercel.options, "base_url": f"{url}/api"}
        async with VercelProvider(**given) as provider:
            image = await provider.build(ImageRecipe())
            assert await provider.build(ImageRecipe()) == image
    return requests


@pytest.mark.full
async def test_calls_and_answers_are_as_the_table_of_the_api_says(package_index: PackageIndex) -> None:
    if not SPEC.is_file():
        pytest.skip("not in CI: the table of Vercel's API is not part of this project")
    table: list[dict[str, Any]] = json.loads(SPEC.read_text())["endpoints"]
    async with package_index.serving() as environment, emulator(build_env=environment) as vercel:
        requests = [*(await life(vercel))[1], *(await bake(vercel))]
    for item in requests:
        rows = [row for row in table if fits(row, item)]
        assert rows, (item.method, item.path)
        assert item.status in STATUSES, item
        if item.status >= 400:
            error = json.loads(item.answer)["error"]
            assert set(error) >= {"code", "message"}
            continue
        if item.headers["content-type"] == "application/json" and item.body:
            assert any(set(item.values) <= names(row.get("body")) for row in rows), item
        known = {"teamId"}.union(*(names(row.get("query")) for row in rows))
        known |= {"wait", "sortOrder", "project"}
        assert set(item.query) <= known, item
        check_answer(json.loads(item.answer) if item.answer else {})


def fits(row: dict[str, Any], item: Recorded) -> bool:
    """Return whether a row is about a call."""
    path = re.sub(r"\{\w+\}", "[^/]+", row["p"].replace("/v2|v3/", "/v[23]/"))
    is_there = re.fullmatch(f"/api{path}", item.path) is not None or re.fullmatch(
        f"/api{path.replace('/stop, extend-timeout', '')}", item.path
    )
    return item.method in row["m"].split("|") and bool(is_there)


def names(listed: object) -> set[str]:
    """Return the fields that a row of the table lists."""
    fields = cast("list[object]", listed) if isinstance(listed, list) else []
    return {re.split(r"[^\w]", str(field), maxsplit=1)[0] for field in fields}


def check_answer(answer: dict[str, Any]) -> None:
    """Hold what an answer holds of sandboxes, sessions and snapshots against what each has."""
    for sandbox in (*answer.get("sandboxes", []), *([answer["sandbox"]] if "sandbox" in answer else [])):
        assert set(sandbox) >= EVERY_SANDBOX
    if "session" in answer:
        assert set(answer["session"]) >= EVERY_SESSION
    for snapshot in (*answer.get("snapshots", []), *([answer["snapshot"]] if "snapshot" in answer else [])):
        assert set(snapshot) >= EVERY_SNAPSHOT
    if "pagination" in answer:
        assert set(answer["pagination"]) == {"count", "next"}

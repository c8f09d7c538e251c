"""What the adapter asks of Daytona and the emulator answers, held against what is known of both APIs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from emulators.recorder import Recorded, watched

from agenthost.link.client import GuestSandbox
from agenthost.providers.daytona.backend import DaytonaBackend
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing.emulators.daytona import Emulator

SPECS = Path(__file__).parents[3] / "shared" / "specs" / "daytona"
# What the client asks and the descriptions of June 2026, which are older, lack.
NEWER = {"kvm", "secrets", "queueTimeout", "ttlMinutes", "autoDestroyAt"}

# The fields that every answer has, with their types: of the vendor's published descriptions.
SANDBOX = {
    **dict.fromkeys(("id", "organizationId", "name", "user", "target", "toolboxProxyUrl", "state"), str),
    **dict.fromkeys(("cpu", "gpu", "memory", "disk"), int),
    **dict.fromkeys(("public", "networkBlockAll", "kvm"), bool),
    **dict.fromkeys(("env", "labels"), dict),
}
SNAPSHOT = {"id": str, "name": str, "state": str, "cpu": int, "mem": int, "disk": int, "general": bool}
ANSWERS: Mapping[str, Mapping[str, type]] = {
    "POST /api/sandbox": SANDBOX,
    "GET /api/sandbox": {"items": list},
    "GET /api/sandbox/{}": SANDBOX,
    "DELETE /api/sandbox/{}": SANDBOX,
    "POST /api/sandbox/{}/autostop/{}": SANDBOX,
    "GET /api/sandbox/{}/ports/{}/preview-url": {"sandboxId": str, "url": str, "token": str},
    "GET /api/snapshots/{}": SNAPSHOT,
    "POST /toolbox/{}/files/bulk-upload": {},
    "POST /toolbox/{}/process/session/{}/exec": {"cmdId": str},
    "GET /toolbox/{}/process/session/{}/command/{}/logs": {"output": str, "stdout": str, "stderr": str},
}
# Answers without a body.
STATUSES = {
    "POST /api/sandbox/{}/last-activity": 201,
    "POST /toolbox/{}/files/folder": 201,
    "POST /toolbox/{}/process/session": 201,
    "DELETE /toolbox/{}/process/session/{}": 204,
}


async def life(daytona: Emulator) -> tuple[GuestSandbox, list[Recorded]]:
    """Make a sandbox, use and end it; return it with all requests."""
    network = NetworkPolicy.allow(["api.anthropic.com"])
    options = {"secrets": {"MODEL_KEY": "model-key"}}
    spec = SandboxSpec(
        network=network,
        lease=300,
        max_lifetime=599,
        region="eu",
        labels={"team": "a"},
        provider_options=options,
    )
    with watched(daytona) as requests:
        async with DaytonaProvider(**daytona.options) as provider:
            box = await provider.create(spec)
            assert isinstance(box.backend, DaytonaBackend)
            await box.backend.extend(500)
            assert [info.id async for info in provider.list({"team": "a"})] == [box.id]
            await box.terminate()
    return box, requests


def shape(item: Recorded) -> str:
    """Return a call without what differs from one sandbox to the next."""
    path = re.sub(r"/(sandbox|session|command|autostop|ports|snapshots|toolbox)/[^/]+", r"/\1/{}", item.path)
    return f"{item.method} {path}"


@pytest.fixture(scope="module")
async def lived(daytona: Emulator) -> tuple[GuestSandbox, list[Recorded]]:
    """Give a life, and its requests to the two APIs."""
    box, requests = await life(daytona)
    kept = [one for one in requests if not one.path.startswith(("/preview", "/api/socket.io"))]
    return box, kept


async def test_each_request_has_the_shape_that_daytona_takes(
    daytona: Emulator, lived: tuple[GuestSandbox, list[Recorded]]
) -> None:
    box, requests = lived
    for item in requests:
        assert item.headers["authorization"] == f"Bearer {daytona.options['api_key']}"
        assert item.headers["x-daytona-source"] == "sdk-python-async"
    (created,) = [item.values for item in requests if shape(item) == "POST /api/sandbox"]
    labels = created.pop("labels")
    assert {name: value for name, value in created.items() if value not in (None, [], {})} == {
        "name": box.name,
        "snapshot": next(name for name in daytona.snapshots.all if name.startswith("agenthost-sdk-")),
        "public": False,
        "target": "eu",
        "autoStopInterval": 5,
        "autoDeleteInterval": 0,
        "ttlMinutes": 10,
        "domainAllowList": "api.anthropic.com",
        "secrets": [{"MODEL_KEY": "model-key"}],
    }
    assert {"team", "agenthost-name", "agenthost-nonce", "agenthost-provider", "agenthost-port"} <= set(
        labels
    )
    by_shape = {shape(item): item for item in requests}
    assert by_shape["POST /toolbox/{}/files/folder"].query == {
        "path": "/home/daytona/.agenthost",
        "mode": "700",
    }
    command = by_shape["POST /toolbox/{}/process/session/{}/exec"].values
    assert (command["runAsync"], command["suppressInputEcho"]) == (True, True)
    assert command["command"].startswith("( env ")
    assert by_shape["POST /api/sandbox/{}/autostop/{}"].path.endswith("/autostop/9")
    listing = by_shape["GET /api/sandbox"].query
    assert json.loads(listing["labels"]) == {"team": "a", "agenthost-provider": "daytona"}


async def test_each_answer_has_the_fields_and_types_that_daytona_documents(
    lived: tuple[GuestSandbox, list[Recorded]],
) -> None:
    seen: set[str] = set()
    for item in lived[1]:
        name = shape(item)
        seen.add(name)
        if item.status >= 400:
            assert set(json.loads(item.answer)) == {"statusCode", "message", "code", "source"}
        elif name in STATUSES:
            assert (item.status, item.answer) == (STATUSES[name], b""), name
        else:
            assert item.status in (200, 202)
            answer = json.loads(item.answer)
            for field, kind in ANSWERS[name].items():
                assert type(answer[field]) is kind, (name, field)
    assert seen == {*ANSWERS, *STATUSES}


async def test_calls_and_answers_are_as_the_published_descriptions_say(
    lived: tuple[GuestSandbox, list[Recorded]],
) -> None:
    if not SPECS.is_dir():
        pytest.skip("not in CI: the descriptions of Daytona's APIs are not part of this project")
    apis = {name: json.loads((SPECS / f"{name}.json").read_text()) for name in ("api", "toolbox")}
    for item in lived[1]:
        is_api = item.path.startswith("/api/")
        document = apis["api" if is_api else "toolbox"]
        path = item.path.removeprefix("/api") if is_api else re.sub(r"^/toolbox/[^/]+", "", item.path)
        operation = operation_of(document, item.method.lower(), path)
        assert operation is not None, (item.method, path)
        known = {one["name"] for one in operation.get("parameters", []) if one.get("in") == "query"}
        assert set(item.query) <= known, item
        asked = schema_of(document, operation.get("requestBody") or body_of(operation))
        if item.body and "json" in item.headers.get("content-type", "") and asked:
            assert set(item.values) <= set(asked["properties"]) | NEWER, item
        if item.status < 400:
            assert str(item.status) in operation["responses"], (item, list(operation["responses"]))
            answered = schema_of(document, operation["responses"][str(item.status)])
            if answered and item.answer and "properties" in answered:
                answer = json.loads(item.answer)
                assert set(answered.get("required", [])) <= set(answer), item
                assert set(answer) <= set(answered["properties"]) | NEWER, item


def operation_of(document: Mapping[str, Any], method: str, path: str) -> Any:
    """Return the description of a call: of the path with the fewest variables that fits."""
    for template in sorted(document["paths"], key=lambda one: one.count("{")):
        if (
            re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
            and method in document["paths"][template]
        ):
            return document["paths"][template][method]
    return None


def body_of(operation: Mapping[str, Any]) -> Any:
    """Return the body of a call in the older form of a description."""
    found: list[Any] = [one for one in operation.get("parameters", []) if one.get("in") == "body"]
    return found[0] if found else {}


def schema_of(document: Mapping[str, Any], part: Any) -> Any:
    """Return the schema of a body or an answer; nothing where it has none."""
    content = part.get("content", {}).get("application/json", part)
    schema: Any = content.get("schema", {})
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema

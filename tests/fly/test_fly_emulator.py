"""What the emulator answers is as Fly describes it, and as unkind as Fly."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx
import pytest
from emulators.published import SPECS
from fly.schema import CALLS, ERROR, deviations
from support.waiting import until

from agenthost.testing.emulators.fly import Emulator, emulator
from agenthost.testing.emulators.fly.control import ROUTES
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 60  # seconds for what has to happen; nothing waits that long
MACHINES = "/v1/apps/sandboxes/machines"
PUBLISHED = "fly_machines_openapi_2024-03_jlengrand.json"
# What the published description has otherwise, since it is older: where, and the reason.
NEWER = {
    "autostop": "a word, not a boolean",
    "rootfs": "not known then",
    "stdin": "not known then",
    "mode": "not known then",
    "name_taken": "not known then",
}


def config(main: str = "sleep 600", **more: Any) -> dict[str, Any]:
    """Return the config of a machine whose main program is a line of shell."""
    service = {
        "protocol": "tcp",
        "internal_port": 9,
        "autostop": "off",
        "autostart": False,
        "ports": [{"port": 443, "handlers": ["tls", "http"]}],
    }
    return {
        "image": "docker.io/library/python:3.13-slim",
        "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
        "init": {"exec": ["/bin/sh", "-c", main]},
        "restart": {"policy": "no"},
        "auto_destroy": True,
        "services": [service],
        **more,
    }


class Client:
    """Calls of an API that are kept."""

    def __init__(self, fly: Emulator) -> None:
        self.calls: list[tuple[str, object, int, object]] = []
        self._headers = {"authorization": f"Bearer {fly.options['token']}"}
        self._http = httpx.AsyncClient(base_url=fly.options["api_url"], trust_env=False, timeout=LIMIT)
        self.proxy = httpx.AsyncClient(base_url=fly.options["app_url"], trust_env=False, timeout=LIMIT)

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Make a call."""
        content = None if body is None else json.dumps(body)
        answer = await self._http.request(method, path, content=content, headers=self._headers)
        answered = answer.json() if answer.content else None
        self.calls.append((f"{method} {path.partition('?')[0]}", body, answer.status_code, answered))
        return answer

    async def make(self, name: str = "box", **more: Any) -> str:
        """Make a machine, and return its id when it has started."""
        made = await self.ask("POST", MACHINES, {"name": name, "config": config(**more)})
        assert made.status_code == 200, made.text
        machine: str = made.json()["id"]
        await self.ask("GET", f"{MACHINES}/{machine}/wait?state=started&timeout=60")
        return machine

    async def state(self, machine: str) -> str:
        """Return the state of a machine."""
        answered: dict[str, Any] = (await self.ask("GET", f"{MACHINES}/{machine}")).json()
        return answered["state"]

    async def aclose(self) -> None:
        await self._http.aclose()
        await self.proxy.aclose()


@pytest.fixture
async def fly() -> AsyncIterator[Emulator]:
    async with emulator(foreign_apps=["foreign"], full={"ams": "status"}) as running:
        yield running


@pytest.fixture
async def client(fly: Emulator) -> AsyncIterator[Client]:
    client = Client(fly)
    yield client
    await client.aclose()


def route_of(call: str) -> str:
    """Return the route of a call."""
    for route in ROUTES:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), call):
            return route
    raise AssertionError(call)


async def a_life(client: Client) -> None:
    """Make every call that the emulator knows, once at least, and some that it refuses."""
    await client.ask("POST", "/v1/apps", {"app_name": "other", "org_slug": "o", "network": "n"})
    await client.ask("POST", "/v1/apps", {"app_name": "foreign", "org_slug": "o"})
    await client.ask("GET", "/v1/apps/other")
    await client.ask("GET", "/v1/apps/foreign")
    await client.ask("GET", "/v1/apps?org_slug=o")
    await client.ask("POST", "/v1/apps/other/ip_assignments", {"type": "shared_v4"})
    await client.ask("GET", "/v1/apps/other/ip_assignments")
    await client.ask("DELETE", "/v1/apps/other")
    files = [{"guest_path": "/root/file", "raw_value": "aGVsbG8=", "mode": 384}]
    machine = await client.make(files=files, env={"A": "b"}, metadata={"team": "a"}, rootfs={"size_gb": 9})
    await client.ask("POST", MACHINES, {"name": "box", "config": config()})
    await client.ask("POST", MACHINES, {"name": "full", "region": "ams", "config": config()})
    await client.ask("GET", f"{MACHINES}?metadata.team=a")
    done = await client.ask(
        "POST", f"{MACHINES}/{machine}/exec", {"command": ["cat", "/root/file"], "stdin": ""}
    )
    assert done.json() == {"stdout": "hello"}
    await client.ask("GET", f"{MACHINES}/{machine}/wait?timeout=61")
    await client.ask("POST", f"{MACHINES}/{machine}/suspend")
    await client.ask("POST", f"{MACHINES}/{machine}/start")
    await client.ask("DELETE", f"{MACHINES}/{machine}?force=true")
    await client.ask("GET", f"{MACHINES}/{machine}")
    await client.ask("GET", f"{MACHINES}/none")


async def test_every_answer_is_as_the_documentation_describes_it(client: Client) -> None:
    with anyio.fail_after(LIMIT):
        await a_life(client)
    assert {route_of(call) for call, *_ in client.calls} == set(ROUTES) == set(CALLS)
    for call, body, status, answered in client.calls:
        asked, answers = CALLS[route_of(call)]
        assert deviations(body, asked if body is not None else None, call) == []
        assert deviations(answered, answers.get(status, ERROR), call) == []
    assert {status for _, _, status, _ in client.calls} == {200, 201, 202, 400, 403, 404, 409, 422}


async def test_every_answer_is_as_the_published_description_has_it_as_far_as_that_goes(
    client: Client,
) -> None:
    path = SPECS / PUBLISHED
    if not path.is_file():
        pytest.skip("not in CI: the published description is not part of this project")
    published: dict[str, Any] = json.loads(path.read_text())
    with anyio.fail_after(LIMIT):
        await a_life(client)
    unknown: set[str] = set()
    for call, body, status, answered in client.calls:
        method, _, path_of_it = route_of(call).partition(" /v1")
        named = path_of_it.replace("{app}", "{app_name}").replace("{id}", "{machine_id}")
        known: dict[str, Any] = published["paths"].get(named, {})
        operation: dict[str, Any] = known.get(method.lower(), {})
        if not operation:
            unknown.add(route_of(call))
            continue
        for one in operation.get("parameters", []):
            if one["in"] == "body" and body is not None:
                assert violations(published, one["schema"], body, call) == []
        schema: Any = operation["responses"].get(str(status), {}).get("schema")
        if status >= 400:
            schema = {"$ref": "#/definitions/ErrorResponse"}
        if schema is not None and not call.endswith("/exec"):  # which was described as bytes then
            assert violations(published, schema, answered, call) == []
    assert unknown == {  # younger than the description
        "GET /v1/apps/{app}/ip_assignments",
        "POST /v1/apps/{app}/ip_assignments",
        "POST /v1/apps/{app}/machines/{id}/suspend",
    }


def violations(spec: Mapping[str, Any], schema: Mapping[str, Any], value: object, where: str) -> list[str]:
    """Return what of a value is not as a schema of Swagger 2 says. A field that it does not name is one."""
    while "$ref" in schema:
        schema = spec["definitions"][schema["$ref"].rpartition("/")[2]]
    for part in schema.get("allOf", []):
        return violations(spec, part, value, where)
    if where.rpartition(".")[2] in NEWER or str(value) in NEWER:
        return []
    kinds: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    kind = schema.get("type")
    if kind is not None and type(value) is not kinds[kind]:
        return [f"{where}: {value!r} is not of the type {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {schema['enum']}"]
    found: list[str] = []
    if isinstance(value, list):
        for one in cast("list[object]", value):
            found += violations(spec, schema["items"], one, f"{where}[]")
    if isinstance(value, dict) and "properties" in schema:
        for name, one in cast("dict[str, object]", value).items():
            if name in schema["properties"]:
                found += violations(spec, schema["properties"][name], one, f"{where}.{name}")
            elif name not in NEWER:
                found.append(f"{where}.{name}: unknown")
    return found


async def test_a_call_or_a_field_that_is_not_known_is_refused_loudly(client: Client, fly: Emulator) -> None:
    for method, path in (("GET", "/v1/apps/sandboxes/volumes"), ("POST", f"{MACHINES}/1/lease")):
        assert (await client.ask(method, path)).status_code == 501
    assert fly.unknown == ["GET /v1/apps/sandboxes/volumes", f"POST {MACHINES}/1/lease"]
    changes: tuple[dict[str, Any], ...] = ({"schedule": "daily"}, {"standbys": []}, {"restart": {}})
    for change in changes:
        body = {"name": "box", "config": {**config(), **change}}
        assert (await client.ask("POST", MACHINES, body)).status_code == 501
        await anyio.lowlevel.checkpoint()
    assert fly.running() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"image": ""}, 400),
        ({"guest": {"cpu_kind": "shared", "cpus": 3, "memory_mb": 1024}}, 422),
        ({"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 1000}}, 422),
        ({"files": [{"guest_path": "file", "raw_value": ""}]}, 400),
        ({"files": [{"guest_path": "/file", "raw_value": "%"}]}, 400),
        ({"env": {"A": 1}}, 400),
        ({"services": "none"}, 400),
        ({"init": {"exec": [1]}}, 400),
    ],
)
async def test_a_config_that_fly_refuses_is_refused_and_the_emulator_goes_on(
    client: Client, change: dict[str, Any], status: int
) -> None:
    answer = await client.ask("POST", MACHINES, {"name": "box", "config": {**config(), **change}})
    assert (answer.status_code, list(answer.json())) == (status, ["error", "status"])
    assert (await client.ask("GET", MACHINES)).json() == []


async def test_calls_that_come_too_often_are_refused_without_a_word_about_when(client: Client) -> None:
    answers = [await client.ask("GET", "/v1/apps/sandboxes") for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert "retry-after" not in answers[-1].headers
    answers = [await client.ask("GET", f"{MACHINES}/none") for _ in range(11)]
    assert [one.status_code for one in answers] == [404] * 10 + [429]


async def test_a_machine_is_not_ready_when_it_is_made_and_not_known_to_the_proxy_when_it_has_started(
    client: Client,
) -> None:
    made = (await client.ask("POST", MACHINES, {"name": "box", "config": config()})).json()
    assert made["state"] == "created"
    early = await client.ask("POST", f"{MACHINES}/{made['id']}/exec", {"command": ["true"]})
    assert early.status_code == 412
    await client.ask("GET", f"{MACHINES}/{made['id']}/wait?state=started")
    headers = {"fly-force-instance-id": made["id"]}
    answers = [await client.proxy.get("/", headers=headers) for _ in range(4)]
    assert [one.status_code for one in answers] == [404, 502, 503, 502]  # the last: nothing listens


async def test_exec_is_buffered_text_with_status_200_and_late_programs_are_a_408(client: Client) -> None:
    machine = await client.make()
    path = f"{MACHINES}/{machine}/exec"
    done = await client.ask("POST", path, {"command": ["sh"], "stdin": "printf '\\377'; exit 3"})
    assert (done.status_code, done.json()) == (200, {"exit_code": 3, "stdout": "\ufffd"})
    late = await client.ask("POST", path, {"command": ["sleep", "60"], "timeout": 1})
    assert (late.status_code, "deadline_exceeded" in late.text) == (408, True)


async def test_a_wait_ends_with_408_and_what_is_destroyed_stays_known_for_a_while(client: Client) -> None:
    machine = await client.make()
    late = await client.ask("GET", f"{MACHINES}/{machine}/wait?state=suspended&timeout=1")
    assert late.status_code == 408
    await client.ask("DELETE", f"{MACHINES}/{machine}?force=true")
    assert await client.state(machine) == "destroyed"
    assert (await client.ask("POST", f"{MACHINES}/{machine}/start")).status_code == 412


@pytest.mark.parametrize(("destroys", "state"), [(True, "destroyed"), (False, "stopped")])
async def test_a_machine_is_what_its_config_says_when_its_main_program_has_ended(
    client: Client, destroys: bool, state: str
) -> None:
    made = await client.ask(
        "POST", MACHINES, {"name": "box", "config": config("exit 0", auto_destroy=destroys)}
    )
    machine: str = made.json()["id"]
    with anyio.fail_after(LIMIT):
        waited = await client.ask(
            "GET",
            f"{MACHINES}/{machine}/wait?state={state}&timeout=60&instance_id={made.json()['instance_id']}",
        )
    assert waited.status_code == 200
    assert await client.state(machine) == state


@pytest.mark.parametrize(
    ("autostop", "state"), [("off", "started"), ("stop", "destroyed"), ("suspend", "suspended")]
)
async def test_the_proxy_stops_what_gets_no_requests_unless_told_otherwise(
    client: Client, fly: Emulator, autostop: str, state: str
) -> None:
    service = {**config()["services"][0], "autostop": autostop}
    machine = await client.make(services=[service])
    await fly.look_for_idle()
    with anyio.fail_after(LIMIT):
        await until(lambda: _state_of(fly, machine), lambda found: found == state)


async def _state_of(fly: Emulator, machine: str) -> str:
    return fly.box(machine).state


@pytest.mark.parametrize(("autostart", "state"), [(True, "started"), (False, "suspended")])
async def test_the_proxy_wakes_up_what_gets_a_request_only_where_told_so(
    client: Client, fly: Emulator, autostart: bool, state: str
) -> None:
    service = {**config()["services"][0], "autostart": autostart}
    machine = await client.make(services=[service])
    fly.box(machine).unrouted = 0
    await client.ask("POST", f"{MACHINES}/{machine}/suspend")
    await client.proxy.get("/", headers={"fly-force-instance-id": machine})
    assert fly.box(machine).state == state


async def test_only_the_header_that_forces_a_machine_leads_to_it(client: Client, fly: Emulator) -> None:
    came: list[str] = []

    async def handle(exchange: Exchange) -> None:
        came.append(exchange.request.headers["x-of"])
        await exchange.reply(200, b"yes")

    async with LoopbackServer(handle) as server:
        service = {**config()["services"][0], "internal_port": server.port}
        listening = await client.make("first", services=[service])
        other = await client.make("second")
        for machine in (listening, other):
            fly.box(machine).unrouted = 0
        headers = {"fly-force-instance-id": listening, "x-of": "forced"}
        assert (await client.proxy.get("/a?b=c", headers=headers)).text == "yes"
        headers = {"fly-prefer-instance-id": listening, "x-of": "preferred"}
        assert (await client.proxy.get("/", headers=headers)).status_code == 502
        await client.ask("DELETE", f"{MACHINES}/{listening}?force=true")
        headers = {"fly-force-instance-id": listening, "x-of": "ended"}
        assert (await client.proxy.get("/", headers=headers)).status_code == 404
    assert came == ["forced"]


async def test_an_app_without_an_address_does_not_answer(client: Client, fly: Emulator) -> None:
    machine = await client.make()
    fly.apps["sandboxes"].addresses.clear()
    with pytest.raises(httpx.TransportError):
        await client.proxy.get("/", headers={"fly-force-instance-id": machine})


async def test_a_token_is_asked_for(client: Client, fly: Emulator) -> None:
    fly.faults.revoked = True
    answer = await client.ask("GET", MACHINES)
    assert (answer.status_code, answer.json()["status"]) == (401, "unknown")

"""What is sent to Fly, call by call: paths, headers and bodies, without an emulator between."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from fly.schema import CALLS, deviations
from support.planned_answers import Answer, Asked, PlannedApi

from agenthost.adapter.rates import Rates
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError, NameTakenError, ProviderBusyError, ProviderError, QuotaError
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.providers.fly.api import Call, FlyApi
from agenthost.providers.fly.app import prepare_app
from agenthost.providers.fly.carrier import FlyProgram, Shell
from agenthost.providers.fly.client import FlyVendor
from agenthost.providers.fly.errors import CapacityError, ForeignAppError, MissingAppError
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.fly.config import COATS

TOKEN = "fm2_of-this-test"
MACHINES = "/v1/apps/an-app/machines"
MACHINE: Mapping[str, Any] = {
    "id": "e2865013d24908",
    "name": "box",
    "state": "started",
    "region": "ams",
    "private_ip": "fdaa:0:1::2",
    "created_at": "2026-11-30T12:00:00Z",
    "image_ref": {"registry": "r", "repository": "i", "digest": "sha256:1"},
    "config": {"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 2048}, "metadata": {"a": "b"}},
}
# As a GuestProvider fills it in.
LABELS = {NONCE_LABEL: "0123", CREATED_LABEL: "1", END_LABEL: "2"}


class Fly(PlannedApi):
    """The Machines API."""


@pytest.fixture
def fly() -> Iterator[Fly]:
    with Fly.serving() as fly:
        yield fly


@pytest.fixture
async def api(fly: Fly) -> AsyncIterator[FlyApi]:
    api = FlyApi(token=TOKEN, url=fly.url)
    yield api
    await api.aclose()


@pytest.fixture
def vendor(api: FlyApi) -> FlyVendor:
    return FlyVendor(api, app="an-app", regions=["ams", "fra"], directory="/root/.agenthost")


@pytest.mark.parametrize(
    ("token", "sent"),
    [("fm2_x", "Bearer fm2_x"), ("FlyV1 fm2_x,fm2_y", "FlyV1 fm2_x,fm2_y"), ("Bearer x", "Bearer x")],
)
async def test_a_token_is_sent_as_fly_wants_it(fly: Fly, token: str, sent: str) -> None:
    api = FlyApi(token=token, url=f"{fly.url}/")
    await api.once("asking", Call("get app", "GET", ("an-app",)))
    await api.aclose()
    (request,) = fly.requests
    assert (request.method, request.target) == ("GET", "/v1/apps/an-app")
    assert request.headers["authorization"] == sent


async def test_a_machine_is_asked_for_with_a_name_that_finds_it_again(fly: Fly, vendor: FlyVendor) -> None:
    fly.answer(200, MACHINE)
    spec = SandboxSpec(name="box", max_lifetime=60, labels=LABELS, image="r/i@sha256:1", disk_mib=9000)
    assert await vendor.create(spec, {"agenthost-name": "box"}) == MACHINE["id"]
    (request,) = fly.requests
    assert f"{request.method} {request.target}" == f"POST {MACHINES}"
    body = json.loads(request.body)
    assert deviations(body, CALLS["POST /v1/apps/{app}/machines"][0]) == []
    config = body["config"]
    assert (body["name"], body["region"]) == ("box", "ams")
    assert config["metadata"] == {"agenthost-name": "box"}
    assert (config["image"], config["rootfs"]) == ("r/i@sha256:1", {"size_gb": 9})
    assert config["init"]["exec"][:3] == ["/bin/sh", "/root/.agenthost/main.sh", "/root/.agenthost"]
    assert {one["guest_path"].rpartition("/")[0] for one in config["files"]} == {"/root/.agenthost"}


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        pytest.param({}, ("shared", 1, 2048), id="default"),
        pytest.param({"memory_mib": 1100}, ("shared", 1, 1280), id="a step of 256"),
        pytest.param({"cpu": 3}, ("shared", 4, 2048), id="no three cores"),
        pytest.param({"memory_mib": 5000}, ("shared", 4, 5120), id="memory by cores"),
        pytest.param({"cpu": 1, "kind": "performance"}, ("performance", 1, 2048), id="performance"),
        pytest.param({"cpu": 4, "kind": "performance"}, ("performance", 4, 8192), id="the least of four"),
    ],
)
async def test_a_machine_is_the_smallest_that_has_what_is_asked_for(
    fly: Fly, vendor: FlyVendor, asked: dict[str, Any], size: tuple[str, int, int]
) -> None:
    fly.answer(200, MACHINE)
    kind = {"cpu_kind": asked["kind"]} if "kind" in asked else {}
    wanted = {name: value for name, value in asked.items() if name != "kind"}
    await vendor.create(SandboxSpec(name="box", labels=LABELS, provider_options=kind, **wanted), {})
    guest = json.loads(fly.requests[0].body)["config"]["guest"]
    assert (guest["cpu_kind"], guest["cpus"], guest["memory_mb"]) == size


@pytest.mark.parametrize("coat", COATS)
async def test_a_lack_of_room_has_many_forms_and_each_leads_to_the_next_region(
    fly: Fly, vendor: FlyVendor, coat: str
) -> None:
    status, message, code = COATS[coat]
    fly.answer(status, {"error": message, "status": code})
    fly.answer(200, MACHINE)
    assert await vendor.create(SandboxSpec(name="box", labels=LABELS), {}) == MACHINE["id"]
    assert [json.loads(one.body)["region"] for one in fly.requests] == ["ams", "fra"]
    fly.answer(status, {"error": message, "status": code})
    with pytest.raises((CapacityError, QuotaError)) as caught:
        await vendor.create(SandboxSpec(name="box", labels=LABELS, region="nrt"), {})
    assert caught.value.outcome == "refused"


async def test_fly_chooses_the_region_where_none_is_named_and_the_specs_comes_first(
    fly: Fly, api: FlyApi, vendor: FlyVendor
) -> None:
    anywhere = FlyVendor(api, app="an-app", regions=(), directory="/root/.agenthost")
    for one, region in ((anywhere, None), (vendor, "nrt")):
        fly.answer(200, MACHINE)
        await one.create(SandboxSpec(name="box", labels=LABELS, region=region), {})
    assert [json.loads(one.body).get("region") for one in fly.requests] == [None, "nrt"]


async def test_a_search_has_one_condition_the_narrowest_and_checks_the_others_itself(
    fly: Fly, vendor: FlyVendor
) -> None:
    others: list[dict[str, Any]] = [
        {**MACHINE, "id": "1", "config": {"metadata": {"agenthost-nonce": "n", "team": "b"}}},
        {
            **MACHINE,
            "id": "2",
            "config": {"metadata": {"agenthost-nonce": "n", "team": "a"}},
            "state": "stopped",
        },
        {**MACHINE, "id": "3", "config": {"metadata": {"agenthost-nonce": "n", "team": "a"}}},
        {**MACHINE, "id": "4", "config": {}},
    ]
    fly.answer(200, others)
    wanted = {"team": "a", "agenthost-nonce": "n"}
    assert [found.id async for found in vendor.find(wanted)] == ["3"]
    fly.answer(200, [])
    assert [found.id async for found in vendor.find({"agenthost-provider": "fly", "team": "a b"})] == []
    assert fly.asked() == [
        f"GET {MACHINES}?metadata.agenthost-nonce=n",
        f"GET {MACHINES}?metadata.team=a+b",
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("created", "starting"),
        ("starting", "starting"),
        ("restarting", "starting"),
        ("updating", "starting"),
        ("replacing", "starting"),
        ("started", "running"),
        ("stopping", "running"),
        ("suspending", "paused"),
        ("suspended", "paused"),
    ],
)
async def test_each_state_of_a_machine_has_its_meaning(
    fly: Fly, vendor: FlyVendor, theirs: str, ours: str
) -> None:
    fly.answer(200, {**MACHINE, "state": theirs})
    found = await vendor.look_up("e2865013d24908")
    assert found.state == ours
    assert found.resources["image"] == "r/i@sha256:1"
    assert fly.asked() == [f"GET {MACHINES}/e2865013d24908"]


@pytest.mark.parametrize(
    "state", ["stopped", "destroying", "destroyed", "failed", "launch_failed", "replaced"]
)
async def test_a_machine_that_has_ended_is_not_found(fly: Fly, vendor: FlyVendor, state: str) -> None:
    fly.answer(200, {**MACHINE, "state": state})
    with pytest.raises(LookupError):
        await vendor.look_up("e2865013d24908")


async def test_an_end_is_forced_and_one_that_was_there_before_is_no_error(
    fly: Fly, vendor: FlyVendor
) -> None:
    fly.answer(200, {"ok": True})
    fly.answer(404, {"error": "machine not found"})
    for _ in range(2):
        await vendor.kill("e2865013d24908")
    assert fly.asked() == [f"DELETE {MACHINES}/e2865013d24908?force=true"] * 2


async def test_a_script_travels_as_input_and_what_fly_leaves_out_is_nothing(
    fly: Fly, vendor: FlyVendor
) -> None:
    fly.answer(200, {})
    secret = "it's a secret"
    await vendor.put_files(
        "e2865013d24908", "/root/.agenthost", {"boot.json": secret.encode(), "main.sh": b""}
    )
    (request,) = fly.requests
    assert f"{request.method} {request.target}" == f"POST {MACHINES}/e2865013d24908/exec"
    body = json.loads(request.body)
    assert deviations(body, CALLS["POST /v1/apps/{app}/machines/{id}/exec"][0]) == []
    assert body["command"] == ["/bin/sh"]
    assert body["timeout"] < 30
    assert "it'\"'\"'s a secret" in body["stdin"]
    assert "main.sh" not in body["stdin"]  # the machine has started with it


async def test_a_script_that_fails_is_an_error_although_the_status_is_200(
    fly: Fly, vendor: FlyVendor
) -> None:
    fly.answer(200, {"exit_code": 1, "stderr": "no space left"})
    with pytest.raises(ProviderError, match="exit code 1, and printed: no space left"):
        await vendor.put_files("e2865013d24908", "/root/.agenthost", {"boot.json": b"{}"})


@pytest.mark.parametrize(
    "answer",
    [
        {"exit_code": 0, "stdout": "not base64"},
        {"exit_code": 10, "stdout": "", "stderr": "no number\n"},
        {"exit_code": 3, "stdout": "x" * 1_000_000},
    ],
)
async def test_a_machine_that_answers_with_anything_is_a_short_error_of_the_provider(
    fly: Fly, vendor: FlyVendor, answer: dict[str, Any]
) -> None:
    program = await vendor.run("e2865013d24908", ["sh"], env={})
    fly.answer(200, answer)
    with pytest.raises(ProviderError) as caught:
        await program.receive()
    assert len(str(caught.value)) < 5000


async def test_an_error_holds_what_fly_answers_and_the_id_of_the_call(
    fly: Fly, api: FlyApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agenthost")
    fly.answer(500, {"error": "broken", "status": "unknown"}, fly_request_id="01ABC-ams")
    fly.answer(502, b"<html>bad gateway</html>")
    call = Call("create machine", "POST", ("an-app", "machines"), body={})
    with pytest.raises(ProviderError, match=r"broken.*01ABC-ams") as caught:
        await api.once("making", call)
    assert caught.value.outcome == "unknown"
    assert "01ABC-ams" in caplog.text
    assert TOKEN not in caplog.text
    with pytest.raises(ProviderError, match="bad gateway"):
        await api.once("making", call)


async def test_a_call_that_comes_too_often_is_made_again_when_fly_wants_it_and_given_up_in_the_end(
    fly: Fly, api: FlyApi
) -> None:
    fly.answer(429, {"error": "rate limit exceeded"}, retry_after="0")
    fly.answer(200, {"ok": True})
    call = Call("get machine", "GET", ("an-app", "machines", "1"))
    assert await api.once("asking", call) == {"ok": True}
    for _ in range(5):
        fly.answer(429, {"error": "rate limit exceeded"}, retry_after="0")
    with pytest.raises(ProviderBusyError) as caught:
        await api.once("asking", call)
    assert caught.value.outcome == "refused"
    assert len(fly.requests) == 7


async def test_only_calls_that_do_no_harm_twice_are_repeated(fly: Fly, api: FlyApi) -> None:
    for _ in range(4):
        fly.answer(503, {"error": "away"})
    with pytest.raises(ProviderError):
        await api.once("making", Call("create machine", "POST", ("an-app", "machines"), body={}))
    with pytest.raises(ProviderError):
        await api.again("listing", Call("list machines", "GET", ("an-app", "machines")))
    assert [one.method for one in fly.requests] == ["POST", "GET", "GET", "GET"]


def on_virtual_time(main: Any) -> None:
    """Run a program on a clock that jumps to the end of every sleep."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def test_calls_are_made_as_often_as_fly_allows_for_each_action_and_machine() -> None:
    times: dict[str, list[float]] = {}

    async def main() -> None:
        rates = Rates((1.0, 3), {"get machine": (5.0, 10)})
        begin = anyio.current_time()

        async def call(action: str, of: str, times_to_call: int) -> None:
            for _ in range(times_to_call):
                await rates.wait(action, of)
                times.setdefault(f"{action} {of}", []).append(anyio.current_time() - begin)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "exec machine", "1", 5)
            tasks.start_soon(call, "exec machine", "2", 3)
            tasks.start_soon(call, "get machine", "1", 12)
        await anyio.sleep(100)
        await call("exec machine", "1", 4)

    on_virtual_time(main)
    assert times["exec machine 2"] == pytest.approx([0, 0, 0])
    assert times["get machine 1"] == pytest.approx([0] * 10 + [0.2, 0.4])
    first, again = times["exec machine 1"][:5], times["exec machine 1"][5:]
    assert first == pytest.approx([0, 0, 0, 1, 2])
    assert again == pytest.approx([again[0]] * 3 + [again[0] + 1])  # what was not used is not kept


# ---- the app


async def test_an_app_is_made_with_a_network_of_its_own_and_public_addresses(fly: Fly, api: FlyApi) -> None:
    app = {"name": "an-app", "organization": {"slug": "an-org"}}
    fly.answer(404, {"error": "app not found"})
    fly.answer(201, {"id": "x"})
    fly.answer(200, app)
    fly.answer(200, {"ips": [{"ip": "fdaa::1", "shared": False}]})  # of a private network
    fly.answer(200, {"ip": "203.0.113.1"})
    fly.answer(200, {"ip": "2001:db8::1"})
    prepared = await prepare_app(api, "an-app", organization="an-org", url="https://an-app.fly.dev")
    assert prepared.made == ("app", "shared_v4", "v6")
    assert (prepared.found, prepared.organization) == ((), "an-org")
    assert fly.asked() == [
        "GET /v1/apps/an-app",
        "POST /v1/apps",
        "GET /v1/apps/an-app",
        "GET /v1/apps/an-app/ip_assignments",
        "POST /v1/apps/an-app/ip_assignments",
        "POST /v1/apps/an-app/ip_assignments",
    ]
    bodies = [json.loads(one.body) for one in fly.requests if one.method == "POST"]
    assert bodies == [
        {"app_name": "an-app", "org_slug": "an-org", "network": "an-app"},
        {"type": "shared_v4"},
        {"type": "v6"},
    ]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(403, {"error": "not authorized"})], id="seen and forbidden"),
        pytest.param(
            [(404, {"error": "not found"}), (422, {"error": "taken", "status": "name_taken"})], id="not seen"
        ),
    ],
)
async def test_a_name_that_another_organization_has_is_said_to_be_taken(
    fly: Fly, api: FlyApi, answers: list[tuple[int, object]]
) -> None:
    for status, body in answers:
        fly.answer(status, body)
    with pytest.raises(NameTakenError, match=r"an-app.*unique across all organisations"):
        await prepare_app(api, "an-app", organization="o", url="")


async def test_an_app_with_machines_of_another_program_is_refused(fly: Fly, api: FlyApi) -> None:
    fly.answer(200, {"name": "an-app"})
    fly.answer(200, [MACHINE])
    with pytest.raises(ConfigError, match=r"e2865013d24908.*agenthost's own"):
        await prepare_app(api, "an-app", organization="o", url="")


async def test_a_missing_app_and_a_foreign_one_are_told_apart_at_every_call(
    fly: Fly, vendor: FlyVendor
) -> None:
    for status, raises in ((404, MissingAppError), (403, ForeignAppError)):
        fly.answer(status, {"error": "no"})
        with pytest.raises(raises):
            await anext(aiter(vendor.find({})))


class FlyThatRuns(Fly):
    """Runs what a machine is asked to, on this one."""

    def choose(self, asked: Asked) -> Answer:
        """Return what the script has done."""
        body = json.loads(asked.body)
        done = subprocess.run(body["command"], input=body["stdin"].encode(), capture_output=True, check=False)
        printed = {"stdout": done.stdout.decode(), "stderr": done.stderr.decode()}
        return 200, {"exit_code": done.returncode, **printed}, {}


@pytest.mark.parametrize("output", [None, "printed"])
async def test_a_program_that_has_ended_has_its_exit_code_even_where_its_output_is_not_there(
    tmp_path: Path, output: str | None
) -> None:
    (tmp_path / "code").write_text("3\n")
    (tmp_path / "err").write_text("why")
    if output is not None:
        (tmp_path / "out").write_text(output)
    with FlyThatRuns.serving() as fly:
        api = FlyApi(token=TOKEN, url=fly.url)
        program = FlyProgram(Shell(api, ("an-app", "machines", "e28", "exec")), str(tmp_path))
        assert await program.receive() == (output or "").encode()
        assert await program.receive() == b""
        assert (await program.wait(), program.stderr) == (3, b"why")
        await api.aclose()

"""What is sent to the Worker, call by call: paths, headers and bodies, without a Worker behind them."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import pytest
from support.planned_answers import Answer, Asked, PlannedApi

from agenthost.adapter.provider import LifetimeLimitError
from agenthost.adapter.record import NAME_LABEL, NONCE_LABEL, PORT_LABEL, PROVIDER_LABEL
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.providers.cloudflare.api import AboutWorker, WorkerApi
from agenthost.providers.cloudflare.backend import CloudflareBackend
from agenthost.providers.cloudflare.client import CloudflareVendor, Container, sandbox_id
from agenthost.providers.cloudflare.errors import OpenWorkerError, WrongWorkerError
from agenthost.providers.cloudflare.provider import CloudflareProvider
from agenthost.sandbox import SandboxInfo
from agenthost.spec import NetworkPolicy, SandboxSpec

KEY = "key-of-this-test"
ROOT = "/agenthost/v1"
ABOUT = {"agenthost": 1, "sandbox": "0.12.10", "max_lifetime": 7200, "egress": "open", "image": "own"}
NONCE = "0123456789abcdef" * 2
# As a GuestProvider fills them in.
LABELS = {NONCE_LABEL: NONCE, PORT_LABEL: "20001", CREATED_LABEL: "1", END_LABEL: "2"}
BOX = Container("abc", NONCE)
RECORD: Mapping[str, Any] = {
    "id": "abc",
    "labels": {**LABELS, NAME_LABEL: "box", PROVIDER_LABEL: "cloudflare"},
    "created_at": 10.0,
    "ends_at": 20.0,
    "state": "running",
}


class Worker(PlannedApi):
    """States what it is as a Worker does, then answers what a test has planned.

    Attributes:
        first: The answers to a request without a key, and to the first one with a key: status and body.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endless: object = None  # the answer where none is planned
        self.first: list[tuple[int, object]] = [(401, refusal("unauthorized")), (200, ABOUT)]

    def choose(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        if (asked.method, asked.target) == ("GET", ROOT):
            return (*self.first["authorization" in asked.headers], {})
        return super().choose(asked) if self.endless is None else (200, self.endless, {})

    def asked(self) -> list[str]:
        """Return what was asked for after the Worker was recognised."""
        return [f"{one.method} {one.target}" for one in self.requests if one.target != ROOT]


def refusal(code: str, message: str = "no") -> object:
    return {"error": {"code": code, "message": message}}


def lines(*events: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def text(data: str) -> str:
    return b64encode(data.encode()).decode()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker.serving() as worker:
        yield worker


@pytest.fixture
async def vendor(worker: Worker) -> AsyncIterator[CloudflareVendor]:
    vendor = CloudflareVendor(WorkerApi(url=worker.url, api_key=KEY, egress="open"))
    yield vendor
    await vendor.aclose()


def spec(**given: Any) -> SandboxSpec:
    usual: dict[str, Any] = {"name": "box", "max_lifetime": 600, "labels": LABELS}
    return SandboxSpec(**{**usual, **given})


# ---- what the Worker must be


async def test_before_its_first_call_it_asks_without_a_key_and_then_with_it_and_only_once(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(vendor.kill, "abc")
    first, second, *others = worker.requests
    assert [one.target for one in worker.requests].count(ROOT) == 2
    assert (first.target, "authorization" in first.headers) == (ROOT, False)
    assert (second.target, second.headers["authorization"]) == (ROOT, f"Bearer {KEY}")
    assert [one.method for one in others] == ["DELETE"] * 3
    assert {one.headers["authorization"] for one in others} == {f"Bearer {KEY}"}
    assert (await vendor.api.about()) == AboutWorker(
        7200, frozenset(), {"sandbox": "0.12.10", "image": "own", "egress": "open"}
    )


NOT_CONFIGURED = (503, refusal("not_configured"))
EMPTY: tuple[int, dict[str, object]] = (200, {})
PAGE = (200, b"<html>hello</html>")
ABSENT = (404, b"404 Not Found")
TOLD_APART: list[Any] = [
    pytest.param({0: (200, ABOUT)}, OpenWorkerError, "answers everyone.*wrangler secret put", id="open"),
    pytest.param({0: NOT_CONFIGURED}, OpenWorkerError, "no key.*wrangler secret put", id="without a key"),
    pytest.param({0: ABSENT}, WrongWorkerError, "agenthost cloudflare init", id="stock bridge"),
    pytest.param({1: ABSENT}, WrongWorkerError, "agenthost cloudflare init", id="stock bridge with a key"),
    pytest.param({0: PAGE}, WrongWorkerError, "agenthost cloudflare init", id="another site"),
    pytest.param({1: EMPTY}, WrongWorkerError, "version None.*agenthost cloudflare init", id="no version"),
    pytest.param({1: (200, {**ABOUT, "agenthost": 2})}, WrongWorkerError, "version 2.*version 1", id="newer"),
    pytest.param(
        {1: (200, {**ABOUT, "egress": "closed"})}, ConfigError, "egress='open'.*closed", id="egress"
    ),
    pytest.param({1: (401, refusal("unauthorized"))}, ProviderError, "refused the key", id="another key"),
    pytest.param({0: (302, b"")}, ProviderError, "Cloudflare Access", id="behind a login"),
]


@pytest.mark.parametrize(("answers", "raises", "words"), TOLD_APART)
async def test_a_worker_that_cannot_be_used_is_told_apart_and_asked_for_nothing_else(
    worker: Worker,
    vendor: CloudflareVendor,
    answers: dict[int, tuple[int, object]],
    raises: type[AgentHostError],
    words: str,
) -> None:
    usual = list(worker.first)
    worker.first = [answers.get(number, one) for number, one in enumerate(usual)]
    steps: Sequence[Callable[[], Awaitable[object]]] = (
        partial(vendor.create, spec(), {}),
        partial(vendor.look_up, "abc"),
        lambda: anext(vendor.find({})),
        partial(vendor.kill, "abc"),
    )
    for step in steps:
        with pytest.raises(raises, match=words) as caught:
            await step()
        assert KEY not in str(caught.value)
    assert worker.asked() == []
    worker.first = usual  # deployed anew meanwhile
    await vendor.kill("abc")
    assert worker.asked() == [f"DELETE {ROOT}/sandboxes/abc"]


# ---- sandboxes


async def test_a_sandbox_is_asked_for_by_an_id_of_its_name_and_nonce_with_its_end(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(201, RECORD)
    begin = time.time()
    made = await vendor.create(spec(), {"agenthost-name": "box"})
    assert made == Container(sandbox_id(spec()), NONCE)
    assert worker.asked() == [f"PUT {ROOT}/sandboxes/{made.id}"]
    body = worker.body()
    assert begin + 600 <= body.pop("ends_at") <= time.time() + 600
    assert body == {"labels": {"agenthost-name": "box"}, "marker": NONCE, "port": 20001}
    assert len(made.id) == 26
    assert set(made.id) <= set("abcdefghijklmnopqrstuvwxyz234567")
    others = (spec(name="other"), spec(labels={**LABELS, NONCE_LABEL: "1"}))
    assert len({made.id, *map(sandbox_id, others)}) == 3


async def test_a_lease_is_the_first_end_and_a_lifetime_above_the_workers_is_refused_without_a_call(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    await vendor.create(spec(lease=30), {})
    assert worker.body()["ends_at"] < time.time() + 31
    before = len(worker.asked())
    with pytest.raises(LifetimeLimitError, match="this Worker allows 2 hours") as caught:
        await vendor.create(spec(max_lifetime=7201), {})
    assert caught.value.seconds == 7200
    assert len(worker.asked()) == before


@pytest.mark.parametrize(
    ("allowed", "policy", "is_made"),
    [
        ([], NetworkPolicy.none(), True),
        ([], NetworkPolicy.allow(["pypi.org"]), False),
        (["pypi.org", "api.anthropic.com"], NetworkPolicy.allow(["API.anthropic.com", "pypi.org"]), True),
        (["pypi.org", "api.anthropic.com"], NetworkPolicy.allow(["pypi.org"]), False),
        (["api.anthropic.com"], NetworkPolicy.none(), False),
        (["api.anthropic.com"], None, True),
    ],
)
async def test_a_closed_worker_makes_sandboxes_with_the_network_that_it_has_and_no_other(
    worker: Worker, allowed: list[str], policy: NetworkPolicy | None, is_made: bool
) -> None:
    worker.first[1] = (200, {**ABOUT, "egress": "closed", "allowed": allowed})
    async with CloudflareProvider(worker_url=worker.url, api_key=KEY, egress="closed") as provider:
        provider.check(spec(network=policy))
        if is_made:
            await provider.vendor.create(spec(network=policy), {})
        else:
            with pytest.raises(UnsupportedError, match="the Worker lets its sandboxes reach"):
                await provider.vendor.create(spec(network=policy), {})
    assert len(worker.asked()) == is_made


@pytest.mark.parametrize(
    ("status", "code", "raises", "outcome"),
    [
        (503, "capacity_exceeded", QuotaError, "refused"),
        (503, "container_unavailable", ProviderBusyError, "refused"),
        (502, "container_error", ProviderError, "unknown"),
        (409, "operation_interrupted", ProviderError, "unknown"),
    ],
)
async def test_a_create_is_sent_once_whatever_goes_wrong(
    worker: Worker,
    vendor: CloudflareVendor,
    status: int,
    code: str,
    raises: type[ProviderError],
    outcome: str,
) -> None:
    worker.answer(status, refusal(code))
    with pytest.raises(raises) as caught:
        await vendor.create(spec(), {})
    assert caught.value.outcome == outcome
    assert len(worker.asked()) == 1


async def test_a_create_that_is_wanted_later_waits_and_looks_are_repeated_at_once(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(503, refusal("container_unavailable"), retry_after="0")
    worker.answer(201, RECORD)
    await vendor.create(spec(), {})
    worker.answer(502, refusal("container_error"))
    worker.answer(503, refusal("container_unavailable"))
    worker.answer(200, RECORD)
    assert (await vendor.look_up("abc")).id == "abc"
    assert [one.split()[0] for one in worker.asked()] == ["PUT"] * 2 + ["GET"] * 3


async def test_a_search_names_its_labels_follows_its_pages_and_checks_what_comes(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    wanted = {"team": "a b&c=d", "empty": "", "a=b": "c"}
    mine = {**RECORD, "labels": wanted}
    worker.answer(200, {"sandboxes": [mine, {**mine, "id": "old", "state": "ended"}], "cursor": "next"})
    worker.answer(200, {"sandboxes": [{**mine, "id": "b"}, {**RECORD, "id": "other"}], "cursor": None})
    assert [found.id async for found in vendor.find(wanted)] == ["abc", "b"]
    queries = [parse_qsl(urlsplit(one).query, keep_blank_values=True) for one in worker.asked()]
    labels = [("label", "team=a b&c=d"), ("label", "empty=")]  # the Worker splits at the first "="
    assert queries == [labels, [*labels, ("cursor", "next")]]


@pytest.mark.parametrize(
    ("theirs", "ours"), [("starting", "starting"), ("running", "running"), ("ended", None), ("new", None)]
)
async def test_each_state_of_a_sandbox_has_its_meaning(
    worker: Worker, vendor: CloudflareVendor, theirs: str, ours: str | None
) -> None:
    worker.answer(200, {**RECORD, "state": theirs})
    if ours is None:
        with pytest.raises(SandboxNotFoundError, match="ended, or was replaced"):
            await vendor.look_up("abc")
    else:
        found = await vendor.look_up("abc")
        assert (found.state, found.created_at, found.expires_at) == (ours, 10.0, 20.0)
        assert await vendor.connect(found) == BOX
    assert worker.asked() == [f"GET {ROOT}/sandboxes/abc"]


async def test_a_list_without_an_end_is_an_error_and_a_row_that_is_no_record_is_left_out(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(200, {"sandboxes": [{"state": "running"}], "cursor": None})
    assert [found.labels async for found in vendor.find({})] == [{}]
    worker.endless = {"sandboxes": [], "cursor": "again"}
    with pytest.raises(ProviderError, match="has no end"):
        async for _ in vendor.find({}):
            pass


@pytest.mark.parametrize("sandbox_id", ["", "a-name", "../sandboxes", "abc/exec", "abc\n"])
async def test_what_is_not_an_id_is_not_found_and_not_asked_for(
    worker: Worker, vendor: CloudflareVendor, sandbox_id: str
) -> None:
    with pytest.raises(SandboxNotFoundError, match="not the id"):
        await vendor.look_up(sandbox_id)
    assert worker.requests == []


async def test_an_end_is_no_error_where_there_is_no_sandbox(worker: Worker, vendor: CloudflareVendor) -> None:
    worker.answer(204, b"")
    worker.answer(404, refusal("not_found"))
    for _ in range(2):
        await vendor.kill("abc")
    assert worker.asked() == [f"DELETE {ROOT}/sandboxes/abc"] * 2


# ---- programs and files


async def test_files_travel_as_one_archive_in_a_body_with_the_marker(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(204, b"")
    worker.answer(200, lines({"exit": 0}))
    await vendor.put_files(BOX, "/root/.agenthost", {"boot.json": b"secret", "guest.pyz": b"\xff\x00"})
    put, unpack = worker.requests[-2:]
    url = urlsplit(put.target)
    ((name, archive),) = parse_qsl(url.query)
    assert (put.method, url.path, name) == ("PUT", f"{ROOT}/sandboxes/abc/files", "path")
    with tarfile.open(fileobj=io.BytesIO(put.body)) as packed:
        assert {one.name: one.mode for one in packed} == {"boot.json": 0o600, "guest.pyz": 0o600}
    assert unpack.target == f"{ROOT}/sandboxes/abc/exec"
    assert {one.headers["x-agenthost-marker"] for one in (put, unpack)} == {NONCE}
    assert json.loads(unpack.body)["argv"][-2:] == [archive, "/root/.agenthost"]
    assert b"secret" not in unpack.body


async def test_an_archive_that_cannot_be_unpacked_is_an_error_with_what_was_printed(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(204, b"")
    worker.answer(200, lines({"stderr": text("no space left")}, {"exit": 2}))
    with pytest.raises(ProviderError, match="exit code 2: no space left"):
        await vendor.put_files(BOX, "/root/.agenthost", {"boot.json": b""})


async def test_the_environment_of_a_program_is_not_among_its_arguments_which_cloudflare_logs(
    worker: Worker, vendor: CloudflareVendor
) -> None:
    worker.answer(200, lines({"stdout": text("a\n")}, {"stderr": text("b")}, {"stdout": ""}, {"exit": 3}))
    program = await vendor.run(BOX, ["pip", "install"], env={"PIP_INDEX_URL": "http://u:secret@x/"})
    body = worker.body()
    assert body["env"] == {"PIP_INDEX_URL": "http://u:secret@x/"}
    assert body["argv"][-2:] == ["pip", "install"]
    assert "secret" not in json.dumps(body["argv"])
    assert body["timeout"] > 0
    assert (await program.receive(), await program.receive()) == (b"a\n", b"")
    assert (await program.wait(), program.stderr, program.binary) == (3, b"b", False)
    with pytest.raises(anyio.ClosedResourceError):
        await program.send(b"x")
    await program.aclose()
    await program.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lines({"stdout": text("a")}), id="no end"),
        pytest.param(lines({"stdout": text("a")}, {"error": {"code": "interrupted"}}), id="interrupted"),
        pytest.param(lines({"stdout": text("a")}) + b'{"exit": ', id="cut"),
        pytest.param(lines({"stdout": text("a")}) + b"<html>\n", id="a page"),
    ],
)
async def test_output_without_an_exit_code_at_its_end_is_lost_and_not_complete(
    worker: Worker, vendor: CloudflareVendor, answer: bytes
) -> None:
    worker.answer(200, answer)
    program = await vendor.run(BOX, ["true"], env={})
    assert await program.receive() == b"a"
    with pytest.raises(OSError, match=r"lost|line"):
        await program.receive()
    await program.aclose()


async def test_a_program_that_prints_nothing_is_no_silent_stream_and_its_exit_code_is_its_own(
    worker: Worker, vendor: CloudflareVendor, tmp_path: Path
) -> None:
    worker.answer(200, lines({"exit": 0}))
    program = await vendor.run(BOX, ["sh", "-c", "read line; exit 3"], env={})
    await program.aclose()
    hurried = tmp_path / "sleep"  # the time between two signs of life passes at once
    hurried.write_text("#!/bin/sh\n")
    hurried.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with anyio.fail_after(60):
        async with await anyio.open_process(
            worker.body()["argv"], env=env, start_new_session=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert (await process.stdout.receive()).strip() == b""
            await process.stdin.send(b"\n")
            assert await process.wait() == 3
            with pytest.raises(anyio.EndOfStream):  # nothing is left that holds it open
                while (await process.stdout.receive()).strip() == b"":
                    pass


async def test_a_program_that_is_refused_leaves_no_secret_in_the_error(
    worker: Worker, vendor: CloudflareVendor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agenthost")
    worker.answer(400, refusal("invalid_request", f"{KEY} and a-secret"))
    with pytest.raises(ConfigError) as caught:
        await vendor.run(BOX, ["true"], env={"A": "a-secret"})
    worker.answer(410, refusal("replaced"))
    with pytest.raises(SandboxGoneError):
        await vendor.run(BOX, ["true"], env={"A": "a-secret"})
    shown = f"{caught.value!r} {caught.value.__context__!r} {caplog.text}"
    assert KEY not in shown
    assert "a-secret" not in shown


# ---- one sandbox


@pytest.fixture
async def backend(worker: Worker) -> AsyncIterator[CloudflareBackend]:
    async with CloudflareProvider(worker_url=f"{worker.url}/", api_key=KEY) as provider:
        labels = {**LABELS, END_LABEL: str(time.time() + 100)}
        known = SandboxInfo(id="abc", name="box", provider="cloudflare", state="running", labels=labels)
        yield provider.backend(known, BOX)


async def test_an_end_is_moved_to_a_time_and_never_behind_that_of_the_lifetime(
    worker: Worker, backend: CloudflareBackend
) -> None:
    for seconds, most in ((30, 30), (500, 100)):
        await backend.extend(seconds)
        assert most - 5 < worker.body()["ends_at"] - time.time() <= most
    assert worker.asked() == [f"POST {ROOT}/sandboxes/abc/lifetime"] * 2
    worker.answer(404, refusal("not_found"))
    with pytest.raises(SandboxGoneError, match="box has ended"):
        await backend.extend(30)


async def test_an_end_is_not_moved_when_the_lifetime_is_over(
    worker: Worker, backend: CloudflareBackend
) -> None:
    over = {**backend.known.labels, END_LABEL: str(time.time() - 1)}
    backend.known = replace(backend.known, labels=over)
    await backend.extend(30)
    assert worker.asked() == []


@pytest.mark.parametrize("last", [(200, RECORD), (404, refusal("not_found"))])
async def test_a_container_whose_start_is_still_under_way_is_waited_for(
    worker: Worker, backend: CloudflareBackend, last: tuple[int, object]
) -> None:
    for status, body in [(200, {**RECORD, "state": "starting"})] * 2 + [last]:
        worker.answer(status, body)
    await backend.until_started()
    assert worker.asked() == [f"GET {ROOT}/sandboxes/abc"] * 3


async def test_the_guest_is_reached_through_the_worker_and_no_other_port_is(
    worker: Worker, backend: CloudflareBackend
) -> None:
    endpoint = await backend.endpoint(20001)
    assert endpoint.url == f"{worker.url}{ROOT}/sandboxes/abc/guest"
    assert endpoint.headers == {"authorization": f"Bearer {KEY}", "x-agenthost-marker": NONCE}
    assert KEY not in repr(endpoint)
    with pytest.raises(UnsupportedError, match="port 80"):
        await backend.endpoint(80)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"worker_url": "my-worker"}, "worker_url.*https://"), ({"egress": "half"}, "egress='half'.*closed")],
)
def test_options_that_are_not_valid_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        usual: dict[str, Any] = {"worker_url": "https://x", "api_key": KEY}
        CloudflareProvider(**{**usual, **options})

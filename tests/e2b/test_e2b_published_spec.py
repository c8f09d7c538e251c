"""What E2B's client asks and the emulator answers is as the published description of its API says."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import e2b as vendor
import httpx
import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse
from support.package_index import PackageIndex

from agenthost.adapter.bootstrap import host_sdk_version
from agenthost.errors import ConfigError, SandboxGoneError, SandboxNotFoundError
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.e2b import Emulator, emulator
from agenthost.testing.loopback import Exchange, LoopbackServer

SPEC = Path(__file__).parents[3] / "shared" / "specs" / "e2b" / "openapi.yml"
# What the client asks and the description, which is older, lacks: with what it has of the same meaning.
NEWER = {
    ("post", "/v2/sandboxes"): "/sandboxes",
    ("post", "/v2/sandboxes/{sandboxID}/connect"): "/sandboxes/{sandboxID}/connect",
}

# Answers that the description does not name.
UNNAMED = {("post", "/v2/sandboxes", 404)}  # there is no such template

Call = tuple[MockRequest, MockResponse]


@dataclass(frozen=True, slots=True)
class Published:
    """The description.

    Attributes:
        asked: What is asked is held against it as it is: the client is newer and may say more.
        answered: What is answered may have no field that it does not name.
    """

    asked: OpenAPI
    answered: OpenAPI


@pytest.fixture(scope="module")
def published() -> Published:
    """Give the description."""
    if not SPEC.is_file():
        pytest.skip("not in CI: the published description is not part of this project")
    told: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    for (method, path), old in NEWER.items():
        told["paths"].setdefault(path, {})[method] = told["paths"][old][method]
    strict = deepcopy(told)
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return Published(OpenAPI.from_dict(told), OpenAPI.from_dict(strict))


class Recorded(Exchange):
    """Passes an answer on and keeps it."""

    def __init__(self, inner: Exchange, calls: list[Call]) -> None:
        super().__init__(inner.request, inner.incoming)
        self._inner = inner  # its server looks whether it was answered
        self._calls = calls

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Keep it."""
        asked = self.request
        url = urlsplit(asked.target)
        if "x-api-key" in asked.headers:  # else it is asked of a sandbox
            request = MockRequest(
                "https://api.e2b.app",
                asked.method.lower(),
                url.path,
                args=dict(parse_qsl(url.query)),
                headers=dict(asked.headers),
                data=asked.body or None,
                content_type=asked.headers.get("content-type", "application/json"),
            )
            self._calls.append((request, MockResponse(body, status, dict(headers or {}))))
        await self._inner.reply(status, body, headers)


@asynccontextmanager
async def recorded(e2b: Emulator) -> AsyncGenerator[tuple[dict[str, Any], list[Call]]]:
    """Yield the options of a way to an emulator that keeps each call, and the calls."""
    calls: list[Call] = []

    async def handle(exchange: Exchange) -> None:
        if exchange.request.target.startswith("/process."):
            await e2b.handle(exchange)
        else:
            await e2b.handle(Recorded(exchange, calls))

    async with LoopbackServer(
        handle, in_pieces=lambda asked: asked.target.endswith("/StreamInput")
    ) as server:
        yield {**e2b.options, "api_url": server.url, "sandbox_url": server.url}, calls


def violations(published: Published, calls: list[Call]) -> list[str]:
    """Return what is not as the description says."""
    found: list[str] = []
    for request, response in calls:
        try:
            published.asked.validate_request(request)
            if (request.method, request.path, response.status_code) not in UNNAMED:
                published.answered.validate_response(request, response)
        except OpenAPIError as error:
            what = f"{request.method} {request.path} {response.status_code}"
            found.append(f"{what}: {error!r}: {error.__cause__!r}: {response.data[:300]!r}")
    return found


def paths(calls: list[Call]) -> set[str]:
    """Return what was asked for, without ids."""
    return {f"{request.method} {'/'.join(request.path.split('/')[:3])}" for request, _ in calls}


async def test_a_life_of_a_sandbox_is_as_described(
    published: Published, e2b_template: dict[str, Path]
) -> None:
    inject = HeaderInjection(host="api.anthropic.com", header="x-api-key", secret="sk-ant-of-this-test")
    network = NetworkPolicy.allow(["api.anthropic.com", "10.0.0.0/8"])
    spec = SandboxSpec(network=network, inject=(inject,), lease=300, max_lifetime=600)
    async with (
        emulator(templates=e2b_template) as e2b,
        recorded(e2b) as (options, calls),
        E2BProvider(**options) as provider,
    ):
        e2b.page = 1
        box = await provider.create(spec)
        backend = box.backend
        assert isinstance(backend, E2BBackend)
        other = await provider.create(SandboxSpec())
        assert len([info async for info in provider.list()]) == 2
        await backend.extend(200)
        await backend.pause()
        assert (await box.info()).state == "paused"
        await backend.resume()
        await box.terminate()
        await other.terminate()
        assert (await other.info()).state == "ended"
        with pytest.raises(SandboxNotFoundError):
            await provider.reach(other.id)
    assert violations(published, calls) == []
    assert {response.status_code for _, response in calls} >= {200, 201, 204, 404}
    assert len(paths(calls)) >= 5


async def test_a_bake_is_as_described(published: Published, tmp_path: Path) -> None:
    # What is baked makes no difference to the calls, and the real one costs seconds.
    write_empty_wheel(tmp_path, "claude_agent_sdk", host_sdk_version())
    async with (
        PackageIndex(tmp_path).serving() as environment,
        emulator(build_env=environment) as e2b,
        recorded(e2b) as (options, calls),
        E2BProvider(**options) as provider,
    ):
        await provider.build(ImageRecipe())
    assert violations(published, calls) == []
    assert {"post /v3/templates", "post /v2/templates", "post /templates/tags"} <= paths(calls)


def write_empty_wheel(directory: Path, name: str, version: str) -> None:
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


async def test_a_snapshot_and_what_begins_with_it_are_as_described(
    published: Published, e2b_template: dict[str, Path]
) -> None:
    async with (
        emulator(templates=e2b_template) as e2b,
        recorded(e2b) as (options, calls),
        E2BProvider(**options) as provider,
    ):
        box = await provider.create(SandboxSpec())
        backend = box.backend
        assert isinstance(backend, E2BBackend)
        await backend.endpoint(8000)
        with pytest.raises(ConfigError):
            await backend.snapshot("no name")
        images = [await backend.snapshot(), await backend.snapshot("named:tag")]
        await box.terminate()
        with pytest.raises(SandboxGoneError):
            await backend.snapshot()
        for image in images:
            await (await provider.create(SandboxSpec(image=image))).terminate()
            assert await vendor.AsyncSandbox.delete_snapshot(image, **options)
    assert violations(published, calls) == []
    snapshots = [response.status_code for request, response in calls if request.path.endswith("/snapshots")]
    assert snapshots == [400, 201, 201, 404]


async def test_refusals_are_as_described(published: Published, e2b: Emulator) -> None:
    async with recorded(e2b) as (options, calls):
        with pytest.raises(vendor.SandboxException):
            await vendor.AsyncSandbox.create(timeout=10**6, **options)
        with pytest.raises(vendor.SandboxException):
            await vendor.AsyncSandbox.create("no-such", **options)
        with pytest.raises(vendor.AuthenticationException):
            another: dict[str, Any] = {**options, "api_key": "e2b_" + "1" * 40}
            await vendor.AsyncSandbox.create(**another)
    assert violations(published, calls) == []
    assert [response.status_code for _, response in calls] == [400, 404, 401]


async def test_what_is_not_described_is_found(published: Published) -> None:
    async with (
        emulator() as e2b,
        recorded(e2b) as (options, calls),
        httpx.AsyncClient(base_url=options["api_url"], headers={"x-api-key": options["api_key"]}) as client,
    ):
        await client.get("/v2/sandboxes")
        await client.post("/v2/sandboxes", json={"templateID": 5})
    listed, made = calls
    assert violations(published, [listed]) == []
    too_little = b'[{"sandboxID": "i1", "state": "running"}]'
    assert len(violations(published, [(listed[0], MockResponse(too_little, 200))])) == 1
    too_much = b'{"code": 401, "message": "no", "hint": "none"}'
    assert len(violations(published, [(listed[0], MockResponse(too_much, 401))])) == 1
    assert len(violations(published, [made])) == 1

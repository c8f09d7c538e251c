"""What E2B's client asks and the emulator answers is as the published description of its API says."""

from __future__ import annotations

import zipfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import e2b as vendor
import httpx
import pytest
from emulators.published import Call, Published, paths
from emulators.published import published as read_published
from emulators.published import recorded as record
from openapi_core.testing import MockResponse
from support.package_index import PackageIndex

from agenthost.adapter.bootstrap import host_sdk_version
from agenthost.errors import ConfigError, SandboxGoneError, SandboxNotFoundError
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.e2b import Emulator, emulator

# What the client asks and the description, which is older, lacks: with what it has of the same meaning.
NEWER = {
    ("post", "/v2/sandboxes"): "/sandboxes",
    ("post", "/v2/sandboxes/{sandboxID}/connect"): "/sandboxes/{sandboxID}/connect",
}

# Answers that the description does not name.
UNNAMED = {("post", "/v2/sandboxes", 404)}  # there is no such template

URL = "https://api.e2b.app"


@pytest.fixture(scope="module")
def published() -> Published:
    """Give the description."""
    return read_published("e2b/openapi.yml", URL, newer=NEWER, unnamed=UNNAMED)


def recorded(e2b: Emulator) -> AbstractAsyncContextManager[tuple[dict[str, Any], list[Call]]]:
    """Yield the options of a way to an emulator that keeps each call, and the calls."""
    return record(
        e2b,
        URL,
        options=("api_url", "sandbox_url"),
        in_pieces=lambda asked: asked.target.endswith("/StreamInput"),
    )


@pytest.mark.full
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
    assert published.violations(calls) == []
    assert {response.status_code for _, response in calls} >= {200, 201, 204, 404}
    assert len(paths(calls)) >= 5


@pytest.mark.full
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
    assert published.violations(calls) == []
    assert {"post /v3/templates", "post /v2/templates", "post /templates/tags"} <= paths(calls)


def write_empty_wheel(directory: Path, name: str, version: str) -> None:
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.full
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
    assert published.violations(calls) == []
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
    assert published.violations(calls) == []
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
    assert published.violations([listed]) == []
    too_little = b'[{"sandboxID": "i1", "state": "running"}]'
    assert len(published.violations([(listed[0], MockResponse(too_little, 200))])) == 1
    too_much = b'{"code": 401, "message": "no", "hint": "none"}'
    assert len(published.violations([(listed[0], MockResponse(too_much, 401))])) == 1
    assert len(published.violations([made])) == 1

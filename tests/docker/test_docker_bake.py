"""Images that agents start fast in, made from other people's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import pytest
from docker.base_image import build_base_image, sdk_by_name, with_files
from docker.docker_engine import DockerEngine, ask

from agenthost.errors import BootstrapError, ConfigError, ProviderError
from agenthost.providers.docker import images
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.images import inspect, labels_of
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import SandboxSpec
from agenthost.supports import ImageRecipe

LIMIT = 300


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run each bake once: it asks the engine what the other suites ask it on both loops, and takes long."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_network(wheels: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in wheels.items():
        monkeypatch.setenv(name, value)


def make_image(engine: DockerEngine, name: str, archive: bytes) -> str:
    repository, _, tag = name.partition(":")
    status, said = ask(engine.host, "POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", archive)
    assert status == 200, said
    return name


@pytest.fixture
async def made(engine: Engine) -> AsyncIterator[list[str]]:
    """Give a list; the images that are named in it are removed."""
    names: list[str] = []
    yield names
    for name in names:
        await engine.ask("DELETE", f"/images/{name}", query={"force": True})


async def test_what_is_baked_already_is_found_again(
    provider: DockerProvider, docker_engine: DockerEngine, baked: str
) -> None:
    said: list[str] = []
    recipe = ImageRecipe(base=docker_engine.base)
    assert await provider.build(recipe, on_progress=said.append) == baked
    assert said == [f"{baked} is there already"]


async def test_a_baked_image_says_what_is_in_it(engine: Engine, baked: str) -> None:
    told = await inspect(engine, baked)
    assert told is not None
    found = labels_of(told)
    assert found["agenthost.sdk"] == images.host_sdk_version()
    assert found["agenthost.base"] == "agenthost-test/base:latest"
    assert baked.endswith(found["agenthost.baked"])


async def test_made_anew_it_has_the_same_name_and_the_old_one_goes(
    provider: DockerProvider, docker_engine: DockerEngine, engine: Engine, baked: str
) -> None:
    before = await inspect(engine, baked)
    with anyio.fail_after(LIMIT):
        assert await provider.build(ImageRecipe(base=docker_engine.base), force=True) == baked
    after = await inspect(engine, baked)
    assert before is not None
    assert after is not None
    assert before["Id"] != after["Id"]
    kept = await inspect(engine, before["Id"])
    assert kept is None or not kept["RepoTags"]  # another image may stand on it


async def test_another_recipe_is_another_image(
    provider: DockerProvider, docker_engine: DockerEngine, baked: str, made: list[str]
) -> None:
    with anyio.fail_after(LIMIT):
        other = await provider.build(ImageRecipe(base=docker_engine.base, packages=("sniffio",)))
    made.append(other)
    assert other != baked


@pytest.mark.parametrize(
    ("without", "said"), [(("python3",), "no python3"), (("bash", "sh"), "bash")], ids=["python", "bash"]
)
async def test_a_base_that_lacks_something_is_refused_by_name(
    provider: DockerProvider,
    docker_engine: DockerEngine,
    made: list[str],
    without: tuple[str, ...],
    said: str,
) -> None:
    name = make_image(
        docker_engine, f"agenthost-test/without:{without[0]}", build_base_image(without=without)
    )
    made.append(name)
    with pytest.raises(ConfigError, match=said):
        await provider.build(ImageRecipe(base=name))
    with pytest.raises(BootstrapError, match=said):
        await provider.create(SandboxSpec(image=name))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"version": [3, 9]}, "Python 3.10 or newer .it has 3.9"),
        ({"libc": ["glibc", "2.17"]}, "glibc 2.26 or newer .it has 2.17"),
        ({"libc": ["", ""]}, "another C library"),
    ],
    ids=["old-python", "old-glibc", "musl"],
)
async def test_an_old_base_is_refused_by_what_is_old(
    provider: DockerProvider,
    docker_engine: DockerEngine,
    made: list[str],
    answer: dict[str, object],
    said: str,
) -> None:
    told = {"python": "/usr/bin/python3", "version": [3, 11], "sdk": None, "bash": True, "machine": "x86_64"}
    text = json.dumps({**told, "libc": ["glibc", "2.36"], **answer})
    python = f"#!/usr/bin/sh\necho '{text}'\n".encode()
    archive = with_files(build_base_image(without=("python3",)), {"usr/bin/python3": python})
    made.append(make_image(docker_engine, "agenthost-test/old:latest", archive))
    with pytest.raises(ConfigError, match=said):
        await provider.build(ImageRecipe(base="agenthost-test/old:latest"))


async def test_an_image_without_the_sdk_is_refused_with_the_command_that_makes_one(
    provider: DockerProvider, docker_engine: DockerEngine
) -> None:
    with pytest.raises(BootstrapError, match=f"agenthost bake docker --base {docker_engine.base}"):
        await provider.create(SandboxSpec(image=docker_engine.base))


async def test_where_nothing_is_baked_for_this_sdk_the_error_says_how(
    provider: DockerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "host_sdk_version", lambda: "99.1")
    with pytest.raises(BootstrapError, match=r"claude-agent-sdk 99\.1 yet\. Make one: agenthost bake docker"):
        await provider.create(SandboxSpec())


async def test_a_users_image_that_has_the_sdk_is_fitted_once(
    provider: DockerProvider, docker_engine: DockerEngine, engine: Engine, made: list[str]
) -> None:
    files = {**sdk_by_name(), "app/of-the-image": b"x"}
    name = make_image(docker_engine, "agenthost-test/own:latest", with_files(build_base_image(), files))
    made.append(name)
    before = await engine.ask("GET", "/images/json")
    for _ in range(2):
        # Its own directory, with what is in it, is the working directory.
        box = await provider.create(SandboxSpec(image=name, workdir="/app"))
        try:
            said = await box.exec(
                ["bash", "-c", "ls; id -un; echo y > new; python3 -c 'import claude_agent_sdk'"]
            )
            assert (said.stdout, said.stderr, said.exit_code) == (b"of-the-image\nagent\n", b"", 0)
        finally:
            await box.terminate()
    after = await engine.ask("GET", "/images/json")
    (fitted,) = {one["Id"] for one in after} - {one["Id"] for one in before}
    made.insert(0, fitted)


async def test_packages_that_are_nowhere_are_told_with_what_the_installer_said(
    provider: DockerProvider, docker_engine: DockerEngine, engine: Engine
) -> None:
    before = await engine.ask("GET", "/images/json")
    with anyio.fail_after(LIMIT), pytest.raises(ProviderError, match="no-such-package-anywhere"):
        await provider.build(ImageRecipe(base=docker_engine.base, packages=("no-such-package-anywhere",)))
    assert len(await engine.ask("GET", "/images/json")) == len(before)


async def test_cancelled_it_leaves_nothing(provider: DockerProvider, docker_engine: DockerEngine) -> None:
    # That no container stays is checked behind every test here.
    for word in ("getting", "putting", "compiling"):
        with anyio.CancelScope() as scope:

            def stop(text: str, word: str = word, scope: anyio.CancelScope = scope) -> None:
                if text.startswith(word):
                    scope.cancel()

            await provider.build(ImageRecipe(base=docker_engine.base), force=True, on_progress=stop)
        assert scope.cancelled_caught, word


async def test_a_base_that_no_registry_has_is_refused(provider: DockerProvider) -> None:
    # Nothing listens there: it is this machine's own.
    with pytest.raises((ConfigError, ProviderError), match=r"127\.0\.0\.1:1/nothing:1' cannot be pulled"):
        await provider.build(ImageRecipe(base="127.0.0.1:1/nothing:1"))

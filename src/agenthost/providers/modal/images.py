"""Which image a sandbox is made from, and the one that has the SDK inside."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any, cast

import modal
import modal.exception

from agenthost.adapter.bootstrap import BAKED_SITE, host_sdk_version
from agenthost.errors import AgentHostError, ConfigError, ProviderError, SandboxNotFoundError
from agenthost.providers.modal.account import Account
from agenthost.providers.modal.settings import Settings
from agenthost.supports import ImageRecipe

Report = Callable[[str], object]

_BAKED = "agenthost-baked"
_LAYOUT = "1"  # changed with what the steps below do
_ID = "im-"

# Byte code that is never compared with its source: the image does not change.
_COMPILE = (
    "import compileall, py_compile, sys; folder = sys.argv[1]; "
    "compileall.compile_dir(folder, quiet=2, workers=0, "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH); "
    "sys.path.insert(0, folder); import claude_agent_sdk; print(claude_agent_sdk.__version__)"
)


async def find_image(account: Account, image: str | None) -> modal.Image:
    """Return the image for a sandbox, built: what was baked for the host's SDK, else one without the SDK.

    Args:
        account: Whose images.
        image: An id of Modal's, or what a registry calls one.

    Raises:
        ConfigError: There is none.
    """
    if image is None:
        baked = await _named(account, baked_name(account.settings, ImageRecipe()))
        return baked or await _built(account, _base(account.settings, None), "the default image")
    if image.startswith(_ID):
        client = await account.client()
        return await _built(account, modal.Image.from_id(image, client=client), f"image {image}")
    # An entry point of the image's own would get our main program as its arguments.
    return await _built(account, _base(account.settings, image).entrypoint([]), f"image {image!r}")


async def bake(account: Account, recipe: ImageRecipe, *, force: bool, report: Report) -> str:
    """Return the id of the image of a recipe. See SupportsImages.build."""
    name = baked_name(account.settings, recipe)
    if not force and (known := await _named(account, name)) is not None:
        report(f"{name} is there already: {known.object_id}")
        return known.object_id
    sdk = recipe.sdk_version or host_sdk_version()
    client = await account.client()
    base = _base(account.settings, recipe.base, force=force)
    # Each step is a layer of its own, built before the next begins: that is all the progress Modal tells. The
    # next stands on its id: Modal's client would build a forced one again together with what stands on it.
    report(f"getting {recipe.base or f'Python {account.settings.python}'}")
    base = await _built(account, base, f"the base {recipe.base!r}" if recipe.base else "the base")
    report(f"installing claude-agent-sdk {sdk}")
    packages = [f"claude-agent-sdk=={sdk}", *recipe.packages]
    installed = modal.Image.from_id(base.object_id, client=client).run_commands(
        _install(packages), force_build=force
    )
    await _built(account, installed, "the image with the SDK")
    report("compiling it")
    compiled = modal.Image.from_id(installed.object_id, client=client).run_commands(
        _compile(), force_build=force
    )
    image = await _built(account, compiled, "the image with the SDK, compiled")
    await account.calls.repeatedly(
        f"name the image {name}",
        account.times.call,
        lambda: image.publish.aio(name, environment_name=account.settings.environment, client=client),
    )
    report(f"made {name}: {image.object_id}")
    return image.object_id


def baked_name(settings: Settings, recipe: ImageRecipe) -> str:
    """Return the name of a recipe's image: a hash of what goes into it, the SDK's version among that."""
    parts = [
        _LAYOUT,
        recipe.base or f"python {settings.python}",
        recipe.sdk_version or host_sdk_version(),
        sorted(recipe.packages),
    ]
    return f"{_BAKED}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def _base(settings: Settings, base: str | None, *, force: bool = False) -> modal.Image:
    if base is None:
        # Modal's client would take this host's own Python.
        return modal.Image.debian_slim(python_version=settings.python)
    if base.startswith(_ID):
        raise ConfigError(f"base {base!r}: give what a registry calls it, not an image of Modal's")
    # Its keywords are typed in part.
    image: modal.Image = cast("Any", modal.Image).from_registry(base, force_build=force)
    return image


def _install(packages: Sequence[str]) -> str:
    words = ["python3", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    words += ["--no-compile", "--progress-bar", "off", "--target", BAKED_SITE, *packages]
    return shlex.join(words)


def _compile() -> str:
    return shlex.join(["python3", "-I", "-c", _COMPILE, BAKED_SITE])


async def _named(account: Account, name: str) -> modal.Image | None:
    client, app = await account.client(), await account.app()
    image = modal.Image.from_name(name, environment_name=account.settings.environment, client=client)
    try:
        await account.calls.repeatedly(
            f"look for the image {name}", account.times.call, lambda: image.build.aio(app)
        )
    except SandboxNotFoundError:
        return None
    return image


async def _built(account: Account, image: modal.Image, what: str) -> modal.Image:
    """Have an image built now: else Modal builds it within the call that makes a sandbox."""
    app = await account.app()
    try:
        # Twice is once: Modal finds an image by what it is made of.
        await account.calls.repeatedly(f"build {what}", account.times.build, lambda: image.build.aio(app))
    except SandboxNotFoundError as error:
        raise ConfigError(f"Modal has no {what}") from error
    except ProviderError as error:
        if isinstance(error.__cause__, modal.exception.ImageBuildError):
            raise ProviderError(f"{error}. What was printed: {await _words(account, image)}") from error
        raise
    return image


async def _words(account: Account, image: modal.Image) -> str:
    """Return the end of what a build printed."""
    try:
        lines = await account.calls.once("tell what was printed", account.times.call, lambda: _tail(image))
    except AgentHostError:
        return "Modal does not say"
    return "\n".join(lines).strip()[-2000:] or "nothing"


async def _tail(image: modal.Image) -> list[str]:
    return [one.message.rstrip() async for one in image.logs.tail.aio(entries=30)]

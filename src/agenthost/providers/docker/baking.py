"""Make an image that has the SDK, from one that has a Python."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from agenthost.adapter.bake import COMPILE
from agenthost.errors import BootstrapError, ConfigError, ProviderError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.archives import Entry, pack_tree
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.fitting import commit, fit, own_config
from agenthost.providers.docker.images import BAKED, digest, host_sdk_version, inspect
from agenthost.providers.docker.looking import Seen, look_into
from agenthost.providers.docker.one_off import one_off, run
from agenthost.providers.docker.pulling import pull
from agenthost.supports import ImageRecipe
from agenthost.threads import in_thread

DEFAULT_BASE = "python:3.13-slim"
_COMPILING = 600.0  # seconds
# A program that its user may run and not read: the kernel closes its memory and its environment to other
# programs of that user.
_CLOSE_CLI = """
import os
cli = os.path.join(folder, "claude_agent_sdk", "_bundled", "claude")
if os.path.exists(cli):
    os.chmod(cli, 0o711)
"""

Report = Callable[[str], object]


async def bake(engine: Engine, recipe: ImageRecipe, *, force: bool, report: Report) -> str:
    """Return the image of a recipe; see SupportsImages.build."""
    base = recipe.base or DEFAULT_BASE
    sdk = recipe.sdk_version or host_sdk_version()
    told = await _base(engine, base, report)
    name = f"{BAKED}:{digest(told['Id'], sdk, sorted(recipe.packages))}"
    known = await inspect(engine, name)
    if known is not None and not force:
        report(f"{name} is there already")
        return name
    report(f"looking into {base}")
    seen = await _look(engine, base, str(told["Id"]))
    directory = tempfile.mkdtemp(prefix="agenthost-bake-")
    try:
        report(f"getting claude-agent-sdk {sdk} for Python {seen.version[0]}.{seen.version[1]}")
        await make_site_into(directory, seen, sdk, recipe, report)
        inside = {
            labels.PROVIDER: "docker",
            labels.BAKED: name.partition(":")[2],
            labels.BASE: base,
            labels.WORKDIR: paths.WORKDIR,
            labels.PYTHON: seen.python,
            labels.SITE: paths.SITE,
            labels.SDK: sdk,
        }
        await _build(engine, told, directory, seen, name, inside, report)
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(lambda: shutil.rmtree(directory, ignore_errors=True))
    if known is not None:
        await _forget(engine, str(known["Id"]))
    report(f"made {name}")
    return name


async def make_site_into(directory: str, seen: Seen, sdk: str, recipe: ImageRecipe, report: Report) -> None:
    """Get the packages of a recipe."""
    from agenthost.providers.docker.site import make_site

    await make_site(directory, seen, [f"claude-agent-sdk=={sdk}", *recipe.packages], report)


async def _base(engine: Engine, base: str, report: Report) -> dict[str, Any]:
    told = await inspect(engine, base)
    if told is None:
        await pull(engine, base, report)
        told = await inspect(engine, base)
    if told is None:
        raise ConfigError(f"the container engine has no image {base!r}, and could not get one")
    return told


async def _look(engine: Engine, base: str, image: str) -> Seen:
    try:
        seen = await look_into(engine, image)
    except BootstrapError as exc:
        raise ConfigError(str(exc).replace(image, base)) from exc
    missing = seen.missing()
    if missing:
        raise ConfigError(f"base {base!r} lacks what an agent needs: {', '.join(missing)}")
    return seen


async def _build(
    engine: Engine,
    told: dict[str, Any],
    directory: str,
    seen: Seen,
    name: str,
    inside: dict[str, str],
    report: Report,
) -> None:
    def archive(entries: list[Entry]) -> AsyncIterator[bytes]:
        return pack_tree(directory, paths.SITE[1:], [*entries, Entry(paths.SITE[1:], None, 0o755)])

    argv = [seen.python, "-I", "-c", COMPILE + _CLOSE_CLI, paths.SITE]
    async with one_off(engine, str(told["Id"]), argv) as container:
        report("putting it into the image")
        await fit(engine, container, paths.WORKDIR, archive)
        report("compiling it")
        ran = await run(engine, container, within=_COMPILING)
        if ran.exit_code != 0:
            said = ran.stderr.decode(errors="replace").strip()[-1000:]
            raise ProviderError(
                f"the SDK does not work in {inside[labels.BASE]!r} (pip takes the requirements of its own "
                f"Python for those of another; uv does not): {said}"
            )
        report("keeping it")
        await commit(engine, container, name, inside, own_config(told))


async def _forget(engine: Engine, image: str) -> None:
    """Remove what was made anew. One that is in use stays, without a name."""
    try:
        await engine.ask("DELETE", f"/images/{image}")
    except EngineError as exc:
        if exc.status not in (404, 409):
            raise

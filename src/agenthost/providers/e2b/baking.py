"""Make a template that has the SDK.

A template has its name from the moment it is asked for, whether it is ever built or not: only what carries
the tag ``ready`` is one that can be used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from agenthost.adapter.bootstrap import BAKED_SITE, host_sdk_version
from agenthost.errors import AgentHostError, ConfigError, ProviderError
from agenthost.providers.e2b.client import Client
from agenthost.supports import ImageRecipe

if TYPE_CHECKING:
    from e2b import BuildInfo

_log = logging.getLogger("agenthost.providers.e2b")

DEFAULT_BASE = "base"  # E2B's own: Debian with Python, Node and git
IMAGE = "image:"  # before a base that is an image of a registry, not a template
READY = "ready"
CPU, MEMORY_MIB, DISK_MIB = 2, 2048, 5120
_LEAST = {"cpu": 1, "memory_mib": 1024, "free_disk_mib": 5120}  # that the SDK wants
_LAYOUT = "1"  # of what is done here; another number is another template
_LOOK_AGAIN = 0.5  # seconds; E2B tells of a build only who asks
_BUILDING = 3600.0  # seconds
_CLEANUP = 30.0
_KEPT = 15  # lines of what was printed last, for an error

# Byte code that is never compared with its source: the template does not change.
_COMPILE = """
import compileall, py_compile, sys
folder = sys.argv[1]
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=unchecked)
sys.path.insert(0, folder)
import claude_agent_sdk
print(claude_agent_sdk.__version__)
"""

Report = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Size:
    """Of every sandbox of a template: E2B gives sizes to templates, not to sandboxes."""

    cpu: int = CPU
    memory_mib: int = MEMORY_MIB
    free_disk_mib: int = DISK_MIB


def template_name(recipe: ImageRecipe, size: Size) -> str:
    """Return the name of a recipe's template: the SDK's version, and a hash of all that goes into it."""
    sdk = recipe.sdk_version or host_sdk_version()
    parts: list[object] = [_LAYOUT, recipe.base or DEFAULT_BASE, sdk, sorted(recipe.packages)]
    parts += [size.cpu, size.memory_mib, size.free_disk_mib]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return f"agenthost-sdk-{sdk.replace('.', '-')}-{digest}"


async def is_ready(client: Client, name: str) -> bool:
    """Return whether a template was built to its end."""
    templates = await client.templates()  # which loads the vendor's package, not on the event loop
    from e2b import NotFoundException

    async with client.asking(f"asking after template {name}"):
        try:
            tags = await templates.get_tags(name)
        except Exception as exc:
            if isinstance(exc, NotFoundException) or getattr(exc, "status_code", None) in (403, 404):
                return False
            raise
    return any(tag.tag == READY for tag in tags)


async def bake(client: Client, recipe: ImageRecipe, size: Size, *, force: bool, report: Report) -> str:
    """Return the template of a recipe; see SupportsImages.build.

    Raises:
        ConfigError: Sandboxes of this size are too small for the SDK.
    """
    for field, least in _LEAST.items():
        if (wanted := getattr(size, field)) < least:
            raise ConfigError(f"{field}={wanted}: the SDK wants {least} at least in E2B's templates")
    name = template_name(recipe, size)
    image = f"{name}:{READY}"
    known = await is_ready(client, name)
    if known and not force:
        report(f"{image} is there already")
        return image
    try:
        with anyio.fail_after(_BUILDING):
            await _build(client, recipe, size, name, force=force, report=report)
            async with client.asking(f"marking template {name}"):
                await (await client.templates()).assign_tags(name, READY)
    except TimeoutError as exc:
        await _forget(client, name, known=known)
        raise ProviderError(f"template {name} was not built within {_BUILDING:g} s") from exc
    except BaseException:
        await _forget(client, name, known=known)
        raise
    report(f"made {image}")
    return image


async def _build(
    client: Client, recipe: ImageRecipe, size: Size, name: str, *, force: bool, report: Report
) -> None:
    sdk = recipe.sdk_version or host_sdk_version()
    base = recipe.base or DEFAULT_BASE
    templates = await client.templates()
    begun = templates()
    started = (
        begun.from_image(base.removeprefix(IMAGE)) if base.startswith(IMAGE) else begun.from_template(base)
    )
    wanted = [f"claude-agent-sdk=={sdk}", *recipe.packages]
    pip = ["python3", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    pip += ["--progress-bar", "off", "--no-compile", "--target", BAKED_SITE, "--", *wanted]
    steps = started.run_cmd(f"umask 022 && mkdir -p {BAKED_SITE} && {shlex.join(pip)}", user="root").run_cmd(
        f"umask 022 && {shlex.join(['python3', '-I', '-c', _COMPILE, BAKED_SITE])}", user="root"
    )
    report(f"getting claude-agent-sdk {sdk} into template {name} on {base}")
    build: BuildInfo | None = None
    # Cancelled in the middle, the template could come after it was removed. Its calls are bounded in time.
    with anyio.CancelScope(shield=True):
        async with client.asking(f"building template {name}"):
            build = await templates.build_in_background(
                steps,
                name,
                cpu_count=size.cpu,
                memory_mb=size.memory_mib,
                min_free_disk_mb=size.free_disk_mib,
                skip_cache=force,
            )
    await anyio.lowlevel.checkpoint()
    assert build is not None
    await _follow(client, build, name, base, report)


async def _follow(client: Client, build: BuildInfo, name: str, base: str, report: Report) -> None:
    """Return when it is built; tell what is printed meanwhile."""
    seen, last = 0, list[str]()
    while True:
        async with client.asking(f"asking after the build of template {name}"):
            told: Any = await (await client.templates()).get_build_status(build, logs_offset=seen)
        for entry in told.log_entries:
            last = [*last[1 - _KEPT :], entry.message]
            report(entry.message)
        seen += len(told.log_entries)
        status = told.status.value
        # At most 100 lines come at once: the last ones may be behind the end.
        if told.log_entries and status in ("ready", "error"):
            continue
        if status == "ready":
            return
        if status == "error":
            reason = told.reason.message if told.reason else "no reason was given"
            said = "\n".join(last)
            if "template" in reason.lower() and "not found" in reason.lower():
                raise ConfigError(f"E2B has no template {base!r}: {reason}")
            raise ProviderError(f"template {name} could not be built: {reason}\n{said}")
        await anyio.sleep(_LOOK_AGAIN)


async def _forget(client: Client, name: str, *, known: bool) -> None:
    """Take away what was not built to its end; one that was there before stays as it was."""
    if known:
        return
    with anyio.move_on_after(_CLEANUP, shield=True):
        try:
            if await is_ready(client, name):  # another bake of the same has come to its end meanwhile
                return
            async with client.asking(f"removing template {name}"):
                # The vendor's client has no call of this name for templates, but this one for both.
                await (await client.sandboxes()).delete_snapshot(name)
        except AgentHostError as error:
            _log.warning("template %s is left, not built to its end: %s", name, error)

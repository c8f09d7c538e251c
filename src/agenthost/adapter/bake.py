"""What goes into an image that has the SDK: the same at every provider."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from agenthost.adapter.bootstrap import BAKED_SITE, host_sdk_version
from agenthost.adapter.dial_carrier import Running, follow
from agenthost.errors import AgentHostError, ProviderError
from agenthost.supports import ImageRecipe

_log = logging.getLogger("agenthost.adapter")

BUILDING = 3600.0  # seconds
_CLEANUP = 30.0
_LAYOUT = "1"  # of what the steps do; another number is another image

# Byte code that is never compared with its source: an image does not change.
COMPILE = """
import compileall, py_compile, sys
folder = sys.argv[1]
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=unchecked)
sys.path.insert(0, folder)
import claude_agent_sdk
print(claude_agent_sdk.__version__)
"""


@dataclass(frozen=True, slots=True)
class BakePlan:
    """How to make the image of a recipe.

    Attributes:
        sdk: The version of claude-agent-sdk.
        base: What the image is made from, in the provider's words.
        digest: 12 hexadecimal digits, of all that goes into the image: equal recipes have equal digests.
        install: Arguments of the program that installs the packages. Run as root, before ``compile``.
        compile: Arguments of the program that compiles them and fails unless the SDK can be imported.
    """

    sdk: str
    base: str
    digest: str
    install: list[str]
    compile: list[str]

    @property
    def name(self) -> str:
        """A name of letters, digits and hyphens."""
        return f"agenthost-sdk-{self.sdk.replace('.', '-')}-{self.digest}"

    @property
    def steps(self) -> tuple[str, str]:
        """``install`` and ``compile`` as lines for a shell, with files that every user may read."""
        return (
            f"umask 022 && mkdir -p {BAKED_SITE} && {shlex.join(self.install)}",
            f"umask 022 && {shlex.join(self.compile)}",
        )


def plan_bake(recipe: ImageRecipe, *, default_base: str, parts: Sequence[object] = ()) -> BakePlan:
    """Return how to make the image of a recipe.

    Args:
        recipe: What is wanted.
        default_base: The base of a recipe that names none.
        parts: What else makes one image differ from another, the size of its machine for instance. JSON.

    Raises:
        BootstrapError: The recipe names no version of the SDK, and this host has none.
    """
    sdk = recipe.sdk_version or host_sdk_version()
    base = recipe.base or default_base
    content = json.dumps([_LAYOUT, base, sdk, sorted(recipe.packages), *parts])
    pip = ["python3", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar"]
    pip += ["off", "--no-compile", "--target", BAKED_SITE, "--", f"claude-agent-sdk=={sdk}", *recipe.packages]
    return BakePlan(
        sdk=sdk,
        base=base,
        digest=hashlib.sha256(content.encode()).hexdigest()[:12],
        install=pip,
        compile=["python3", "-I", "-c", COMPILE, BAKED_SITE],
    )


async def run_step(running: Running, report: Callable[[str], object]) -> None:
    """Follow a program that is a step of a plan, where an image is made of a machine; close it at its end.

    Raises:
        ProviderError: It failed; the message ends with what it printed last.
    """
    await follow(running, "a step of the image failed", report)


async def bake_once(
    name: str,
    *,
    find: Callable[[], Awaitable[str | None]],
    build: Callable[[], Awaitable[str]],
    remove: Callable[[], Awaitable[object]],
    force: bool,
    report: Callable[[str], object],
    within: float = BUILDING,
) -> str:
    """Return the image of this name: the one that is there, else a new one. Nothing half-made is left.

    Args:
        name: For messages and progress.
        find: Returns what ``SandboxSpec.image`` takes; None where no image was built to its end.
        build: Builds the image and marks it, as the last step, as one that ``find`` finds.
        remove: Removes what an unfinished build has left. Not called where an image was there before.
        force: Whether to build though there is an image.
        report: Called with a line of text for each step.
        within: Seconds for ``build``.

    Raises:
        ProviderError: The image was not built, or not in time.
    """
    known = await find()
    if known is not None and not force:
        report(f"{known} is there already")
        return known
    try:
        with anyio.fail_after(within):
            image = await build()
    except BaseException as exc:
        if known is None:
            with anyio.move_on_after(_CLEANUP, shield=True):
                try:
                    if await find() is None:  # else another bake of the same has ended meanwhile
                        await remove()
                except AgentHostError as error:
                    _log.warning("image %s is left, not built to its end: %s", name, error)
        if isinstance(exc, TimeoutError):
            raise ProviderError(f"image {name} was not built within {within:g} s") from exc
        raise
    report(f"made {image}")
    return image

"""An image is built once for all that goes into it, and nothing half-made is left."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agenthost.adapter.bake import BakePlan, bake_once, plan_bake
from agenthost.adapter.bootstrap import host_sdk_version
from agenthost.errors import ProviderError
from agenthost.supports import ImageRecipe


class Images:
    """A vendor's images, of which one build is under way."""

    def __init__(
        self, *, known: str | None = None, error: Exception | None = None, hangs: bool = False
    ) -> None:
        self.known = known
        self.building = anyio.Event()
        self.removed = 0
        self.said: list[str] = []
        self.remove_error: Exception | None = None
        self._error = error
        self._hangs = hangs

    async def find(self) -> str | None:
        await anyio.lowlevel.checkpoint()
        return self.known

    async def build(self) -> str:
        self.building.set()
        await (anyio.sleep_forever() if self._hangs else anyio.lowlevel.checkpoint())
        if self._error is not None:
            raise self._error
        return "built"

    async def remove(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.removed += 1
        if self.remove_error is not None:
            raise self.remove_error

    async def bake(self, *, force: bool = False, **options: Any) -> str:
        """Bake."""
        steps: dict[str, Any] = {"find": self.find, "build": self.build, "remove": self.remove}
        return await bake_once("mine", **{**steps, **options}, force=force, report=self.said.append)


async def test_an_image_that_is_there_is_not_built() -> None:
    images = Images(known="known")
    assert await images.bake() == "known"
    assert not images.building.is_set()
    assert images.said == ["known is there already"]


async def test_an_image_is_built_where_there_is_none_and_where_that_is_forced() -> None:
    for known in (None, "known"):
        images = Images(known=known)
        assert await images.bake(force=True) == "built"
        assert (images.said, images.removed) == (["made built"], 0)


async def test_a_build_that_fails_removes_what_it_left() -> None:
    images = Images(error=ProviderError("step 3"))
    with pytest.raises(ProviderError, match="step 3"):
        await images.bake()
    assert images.removed == 1


async def test_a_forced_build_that_fails_leaves_the_image_that_was_there() -> None:
    images = Images(known="known", error=ProviderError("step 3"))

    async def build() -> str:
        images.known = None  # as at a vendor that moves the name to the new build when that begins
        return await images.build()

    with pytest.raises(ProviderError, match="step 3"):
        await images.bake(force=True, build=build)
    assert images.removed == 0


async def test_a_build_that_takes_too_long_is_an_error_and_removed() -> None:
    images = Images(hangs=True)
    with pytest.raises(ProviderError, match=r"image mine was not built within 0\.01 s"):
        await images.bake(within=0.01)
    assert images.removed == 1


@pytest.mark.parametrize("is_built_meanwhile", [False, True])
async def test_a_build_that_is_cancelled_removes_what_it_left_and_not_what_another_one_has_built(
    is_built_meanwhile: bool,
) -> None:
    images = Images(hangs=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(images.bake)
        await images.building.wait()
        images.known = "another's" if is_built_meanwhile else None
        tasks.cancel_scope.cancel()
    assert images.removed == (not is_built_meanwhile)


async def test_what_cannot_be_removed_is_a_warning_and_the_error_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "agenthost.adapter")
    images = Images(error=ProviderError("step 3"))
    images.remove_error = ProviderError("away")
    with pytest.raises(ProviderError, match="step 3"):
        await images.bake()
    assert "image mine is left, not built to its end: away" in caplog.text


def plan(recipe: ImageRecipe | None = None, *parts: object) -> BakePlan:
    return plan_bake(recipe or ImageRecipe(), default_base="base", parts=parts)


def test_equal_recipes_have_one_name_however_they_are_written() -> None:
    same = [
        plan(),
        plan(ImageRecipe(base="base")),
        plan(ImageRecipe(sdk_version=host_sdk_version())),
    ]
    assert len({one.name for one in same}) == 1
    assert plan(ImageRecipe(packages=("a", "b"))).name == plan(ImageRecipe(packages=("b", "a"))).name
    others = [plan(None, 2), plan(None, 2, 4), plan(None, "2"), plan(ImageRecipe(base="other"))]
    assert len({one.name for one in [*others, plan()]}) == 5


def test_packages_are_arguments_behind_all_options() -> None:
    made = plan(ImageRecipe(packages=("a b; rm -rf /", "--index-url=x"), sdk_version="0.1"))
    behind = made.install[made.install.index("--") + 1 :]
    assert behind == ["claude-agent-sdk==0.1", "a b; rm -rf /", "--index-url=x"]
    assert made.steps[0].endswith("claude-agent-sdk==0.1 'a b; rm -rf /' --index-url=x")

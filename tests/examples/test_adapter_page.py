"""The page on adapters shows the examples as they are."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from examples.running import EXAMPLES, run_example

from agenthost.errors import MissingCredentialError, MissingExtraError
from agenthost.supports import ImageRecipe

PAGE = (EXAMPLES.parent / "docs" / "write-an-adapter.md").read_text()
PACKAGE = EXAMPLES / "custom_provider"
FILES = {
    "python": [
        PACKAGE / "src" / "agenthost_ssh" / "provider.py",
        PACKAGE / "tests" / "test_conformance.py",
        EXAMPLES / "guest_provider.py",
        EXAMPLES / "port_provider.py",
    ],
    "toml": [PACKAGE / "pyproject.toml"],
}


BLOCKS = re.findall(r"^```(python|toml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(word: str) -> str:
    """Return the program of the page that has this word, which a test runs."""
    (found,) = [text for _, text in BLOCKS if word in text]
    return found


RUN = ("require_extra(", "AcmeImages")


def test_the_code_it_shows_is_that_of_the_examples() -> None:
    shown = [(language, text) for language, text in BLOCKS if not any(word in text for word in RUN)]
    assert len(shown) >= 8
    for language, text in shown:
        assert any(text in file.read_text() for file in FILES[language]), text


def test_its_program_for_credentials_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"api_key": None}
    with pytest.raises(MissingExtraError, match="agenthost\\[acme\\]"):
        exec(block("require_extra("), names)
    (tmp_path / "acme.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    with pytest.raises(MissingCredentialError, match="ACME_API_KEY"):
        exec(block("require_extra("), names)
    monkeypatch.setenv("ACME_API_KEY", "from the environment")
    exec(block("require_extra("), names)
    assert names["key"] == "from the environment"


async def test_its_program_for_bakes_builds_once() -> None:
    class Vendor:
        """A vendor that has names for images."""

        def __init__(self) -> None:
            self.images: list[str] = []

        async def find_image(self, name: str) -> str | None:
            return name if name in self.images else None

        async def build_image(self, name: str, base: str, steps: tuple[str, str]) -> str:
            assert base == "debian-12"
            assert "claude-agent-sdk==" in steps[0]
            self.images.append(name)
            return name

    names: dict[str, Any] = {}
    exec(block("AcmeImages"), names)
    vendor = Vendor()

    class Provider(names["AcmeImagesProvider"]):  # type: ignore[misc]  # the page's own class
        """With the rest of an adapter, which bakes do not use."""

        name = "acme"
        vendor = property(lambda _: vendor)
        make_vendor = make = layout = None

    assert not Provider.__abstractmethods__
    provider: Any = Provider()
    first = await provider.build(ImageRecipe())
    assert await provider.build(ImageRecipe()) == first
    assert vendor.images == [first]


async def test_the_program_whose_guest_starts_with_the_machine_runs() -> None:
    assert await run_example("guest_provider.py") == "b'hello\\n'\n"


async def test_the_program_whose_guest_has_a_port_runs() -> None:
    assert await run_example("port_provider.py") == "b'hello\\n'\n"


def test_what_it_names_is_there() -> None:
    for module, name in re.findall(r"`(agenthost(?:\.[a-z_]+)*)\.(\w+)[`(]", PAGE):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), (module, name)
    for target in re.findall(r"\]\(((?:\.\./)?[\w/.-]+)(?:#[\w-]*)?\)", PAGE):
        assert (EXAMPLES.parent / "docs" / target).exists(), target

"""The page on adapters shows the examples as they are."""

from __future__ import annotations

import re

from examples.running import EXAMPLES

PAGE = (EXAMPLES.parent / "docs" / "write-an-adapter.md").read_text()
PACKAGE = EXAMPLES / "custom_provider"
FILES = {
    "python": [
        EXAMPLES / "direct_sandbox.py",
        PACKAGE / "src" / "agenthost_ssh" / "provider.py",
        PACKAGE / "tests" / "test_conformance.py",
    ],
    "toml": [PACKAGE / "pyproject.toml"],
}


def test_the_code_it_shows_is_that_of_the_examples() -> None:
    shown = re.findall(r"^```(python|toml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 13
    for language, text in shown:
        assert any(text in file.read_text() for file in FILES[language]), text


def test_what_it_names_is_there() -> None:
    for module, name in re.findall(r"`carriers\.(\w+)\.(\w+)\(", PAGE):
        code = EXAMPLES.parent / "src" / "agenthost" / "link" / "carriers" / f"{module}.py"
        assert f"def {name}(" in code.read_text()
    for target in re.findall(r"\]\(((?:\.\./)?[\w/.-]+)(?:#[\w-]*)?\)", PAGE):
        assert (EXAMPLES.parent / "docs" / target).exists(), target

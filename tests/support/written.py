"""Config files of a test, and what loading one says."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from agenthost.config import Config, load_config
from agenthost.errors import ConfigError


def write(directory: Path, text: str) -> Path:
    """Write ``agenthost.toml``."""
    path = directory / "agenthost.toml"
    path.write_text(textwrap.dedent(text))
    return path


def loaded(directory: Path, text: str) -> Config:
    """Load a config of this text."""
    return load_config(write(directory, text))


def said_of(directory: Path, text: str, error: type[ConfigError] = ConfigError) -> list[str]:
    """Return the whole message that a text is refused with: a line each, and without the directory."""
    path = write(directory, text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert type(raised.value) is error
    return str(raised.value).replace(f"{directory}/", "").splitlines()

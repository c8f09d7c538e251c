"""Options of providers: those of a declared model, or those that the constructor takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.installed import error_of, install, said_by, write_module
from support.written import write

from agenthost.config.provider_options import options_model
from agenthost.registry import load_provider

PROVIDER = """
from pathlib import Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str = "https://api.example.com"
    api: SecretStr | None = None
    retries: int = Field(default=3, ge=0, le=10)
    regions: tuple[str, ...] = ()
    cache: Path | None = None
    debug: bool = False

class Provider:
    options_model = Options

    def __init__(self, **options):
        self.options = options
"""


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    write_module(tmp_path, "acme", PROVIDER)
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider"})
    return tmp_path


def said(directory: Path, text: str, **environ: str) -> str:
    """Load a config for ``acme``; return what was wrong with it."""
    path = write(directory, f'provider = "acme"\n[providers.acme]\n{text}')
    before = f"import os; os.environ.update({environ!r})"
    error = error_of(f"agenthost.load_config({str(path)!r})", directory, before=before)
    return error.replace(f"{directory}/", "")


def test_a_declared_model_gives_the_options_as_it_has_them(acme: Path) -> None:
    text = """
    provider = "acme"
    [providers.acme]
    api = { env = "ACME_API" }
    regions = ["fra", "iad"]
    cache = "/var/cache"
    """
    program = f"""
    import os
    import agenthost
    os.environ.update(ACME_API="hidden", AGENTHOST_PROVIDERS__ACME__RETRIES="5",
                      AGENTHOST_PROVIDERS__ACME__DEBUG="True", AGENTHOST_PROVIDERS__ACME__URL="42")
    config = agenthost.load_config({str(write(acme, text))!r})
    assert "hidden" not in repr(config)
    print(agenthost.open_provider(config.provider).options)
    """
    assert said_by(program, acme) == str(
        {
            "api": "hidden",
            "cache": Path("/var/cache"),
            "debug": True,
            "regions": ("fra", "iad"),
            "retries": 5,
            "url": "42",
        }
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("retires = 3", "retires: there is no such key. Did you mean 'retries'?"),
        ('retries = "3"', "retries: expected a whole number, found text"),
        ("retries = 11", "retries: expected a number of at most 10, found 11"),
        ("regions = [1]", "regions[0]: expected text, found a whole number"),
        ("debug = 1", "debug: expected true or false, found a whole number"),
        (
            'api = "abc"',
            ('api: a secret is expected: give the name of an environment variable, as { env = "NAME" }'),
        ),
    ],
)
def test_a_wrong_option_says_where_and_what(acme: Path, text: str, problem: str) -> None:
    assert said(acme, text) == f"ConfigError: agenthost.toml: [providers.acme] {problem}"


def test_a_variable_with_a_wrong_option_is_named(acme: Path) -> None:
    name = "AGENTHOST_PROVIDERS__ACME__RETRIES"
    problem = "expected a whole number, found text"
    assert said(acme, "", **{name: "many"}) == f"ConfigError: environment variable {name}: {problem}"


def test_a_secret_that_is_not_set_names_its_variable(acme: Path) -> None:
    assert said(acme, 'api = { env = "ACME_MISSING" }') == (
        "MissingCredentialError: agenthost.toml: [providers.acme] api: the environment variable ACME_MISSING "
        "is not set: set it, or remove this key"
    )


def test_a_missing_extra_of_the_chosen_provider_is_told(tmp_path: Path) -> None:
    write_module(tmp_path, "acme", "import acme_client\nclass Provider: ...\n")
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider [http]"})
    assert said(tmp_path, "retries = 1") == (
        "MissingExtraError: provider 'acme' needs a package that is not installed (No module named "
        "'acme_client'). Install it: pip install 'acme-sandbox[http]'"
    )


def test_a_constructors_keywords_that_are_data_are_its_options() -> None:
    class Client: ...

    def make(*, name: str, count: int = 1, client: Client | None = None, limits: Any = None) -> None:
        del name, count, client, limits

    model = options_model(make)
    assert set(model.model_fields) == {"name", "count"}
    assert model.model_fields["name"].is_required()
    assert model.model_config.get("extra") == "forbid"


def test_a_constructor_that_takes_any_keyword_is_asked_itself() -> None:
    def make(*, count: int = 1, **more: object) -> None:
        del count, more

    assert options_model(make).model_config.get("extra") == "allow"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local", {"bwrap", "secret", "site", "state_dir"}),
        ("local-unisolated", {"secret", "site", "state_dir"}),
        ("docker", {"carrier", "host", "secret"}),
    ],
)
def test_our_own_providers_have_these_options(name: str, options: set[str]) -> None:
    assert set(options_model(load_provider(name)).model_fields) == options

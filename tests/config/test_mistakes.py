"""Each mistake in a file says file, table, key and what was expected, and shows no value."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.written import said_of

from agenthost.config import load_config
from agenthost.config.secrets import looks_secret, mask_secrets, names_secret
from agenthost.errors import ConfigError, MissingCredentialError, UnknownProviderError
from agenthost.registry import provider_names
from agenthost.spec import SandboxSpec

KNOWN = ", ".join(provider_names())
REFERENCE = 'give the name of an environment variable, as { env = "NAME" }'
LOOKS = f"what stands there looks like a secret and is not shown: {REFERENCE}"
SECRET = "sk-ant-api03-0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # unknown keys
        ('provder = "local"', "provder: there is no such key. Did you mean 'provider'?"),
        (
            "[quux]\na = 1",
            "quux: there is no such key. Known are: agent, audit, limits, provider, providers, spec",
        ),
        ("[spec]\nlifetime = 5", "[spec] lifetime: there is no such key. Did you mean 'max_lifetime'?"),
        (
            "[spec.limits]\nmemory_mb = 5",
            "[spec.limits] memory_mb: there is no such key. Did you mean 'memory_mib'?",
        ),
        (
            '[[spec.mounts]]\nsource = "/a"\ntarget = "/b"\nreadonly = true',
            "[spec] mounts[0].readonly: there is no such key. Known are: source, target",
        ),
        ("[agent]\nmodle = 5", "[agent] modle: there is no such key. Did you mean 'model'?"),
        ("[agent]\nquux = 5", "[agent] quux: there is no such key: remove it"),
        (
            "[agent.defaults]\nrefuse_bypass = false",
            "[agent.defaults] refuse_bypass: there is no such key. Did you mean 'refuse_unisolated_bypass'?",
        ),
        (
            '[agent.mcp_servers.db]\ncomand = "psql"',
            "[agent.mcp_servers.db] comand: there is no such key. Did you mean 'command'?",
        ),
        ("[limits]\nstrat = 5", "[limits] strat: there is no such key. Did you mean 'start'?"),
        (
            '[agent]\ncan_use_tool = "ask"',
            "[agent] can_use_tool: it is no data: give it in a program, as options=ClaudeAgentOptions(...)",
        ),
        # wrong types
        ("provider = 3", "provider: expected text, found a whole number"),
        ("providers = 3", "providers: expected a table, found a whole number"),
        ("[providers]\nlocal = 3", "[providers] local: expected a table, found a whole number"),
        ('[spec]\ncpu = "2"', "[spec] cpu: expected a number, found text"),
        ("[spec]\nmemory_mib = 0.5", "[spec] memory_mib: expected a whole number, found a number"),
        ("[spec]\ncpu = 0", "[spec] cpu: expected a number above 0, found 0"),
        ("[limits]\nclose = -1.5", "[limits] close: expected a number of at least 0, found -1.5"),
        ("[spec]\nname = 2026-01-01", "[spec] name: expected no date or time; text stands in quotes"),
        ("[spec.env]\nDEBUG = 1", "[spec.env] DEBUG: expected text, found a whole number"),
        (
            '[agent]\nallowed_tools = "Bash"',
            "[agent] allowed_tools: expected a list, found text",
        ),
        ("[agent]\nallowed_tools = [3]", "[agent] allowed_tools[0]: expected text, found a whole number"),
        ('[agent]\nfork_session = "yes"', "[agent] fork_session: expected true or false, found text"),
        ('[agent]\nmax_turns = "many"', "[agent] max_turns: expected a whole number, found text"),
        (
            '[agent.defaults]\nmax_turns = "none"',
            "[agent.defaults] max_turns: expected a whole number or 'sdk', found other text",
        ),
        (
            '[agent]\ncredentials = "hosts"',
            (
                "[agent] credentials: expected 'host', 'env' or 'provider', found other text. "
                "Did you mean 'host'?"
            ),
        ),
        (
            '[spec]\nnetwork = "opne"',
            (
                "[spec] network: expected 'open' or 'none' or a table { allow = [\"pypi.org\"] }, found "
                "other text. Did you mean 'open'?"
            ),
        ),
        (
            "[agent.env]\nDEBUG = 1",
            (
                "[agent.env] DEBUG: expected text or the name of an environment variable, as "
                '{ env = "NAME" }, found a whole number'
            ),
        ),
        # what is missing
        ('[[spec.mounts]]\nsource = "/a"', "[spec] mounts[0].target: it is missing: add it"),
        # what no sandbox or agent could be
        (
            '[spec]\nname = "Upper"',
            (
                "[spec] name: sandbox name 'Upper': use 1 to 63 lower-case letters, digits and dashes, "
                "beginning with a letter or digit"
            ),
        ),
        ('[spec]\nworkdir = "app"', "[spec] workdir: workdir 'app' is not an absolute path"),
        ("[limits]\nstart = inf", "[limits] start: Limits.start is inf; it must be a number, at least 0"),
        # secrets
        (f'[agent.env]\nNOTE = "{SECRET}"', f"[agent.env] NOTE: {LOOKS}"),
        ('[agent.env]\nGITHUB_TOKEN = "abc"', f"[agent.env] GITHUB_TOKEN: a secret is expected: {REFERENCE}"),
        (
            '[agent.mcp_servers.web]\nurl = "https://example.com"\nheaders = { Authorization = "abc" }',
            f"[agent.mcp_servers.web.headers] Authorization: a secret is expected: {REFERENCE}",
        ),
        (
            '[[spec.inject]]\nhost = "a"\nheader = "b"\nsecret = "abc"',
            f"[spec] inject[0].secret: a secret is expected: {REFERENCE}",
        ),
        (
            '[spec.env]\nAPI_KEY = "abc"',
            (
                "[spec.env] API_KEY: providers show a sandbox's environment, so no secret belongs there: use "
                "[agent.env]"
            ),
        ),
        (
            '[agent.env]\nKEY = { env = "not a name" }',
            "[agent.env.KEY] env: expected the name of an environment variable, found text",
        ),
        (f'provider = "{SECRET}"', f"provider: {LOOKS}"),
        (
            f"[agent]\n{SECRET} = true",
            "[agent] a key that looks like a secret: it is refused and not shown: a secret stands in no file",
        ),
        ('[agent.env]\nHTTPS_PROXY = "http://me:word@proxy:3128"', f"[agent.env] HTTPS_PROXY: {LOOKS}"),
        # options of providers
        (
            "[providers.local]\nbwarp = 3",
            "[providers.local] bwarp: there is no such key. Did you mean 'bwrap'?",
        ),
        ("[providers.local]\nbwrap = 3", "[providers.local] bwrap: expected text, found a whole number"),
        (
            "[providers.local]\nlimits = {}",
            "[providers.local] limits: there is no such key. Known are: bwrap, secret, site, state_dir",
        ),
        ('[providers.local]\nsecret = "abc"', f"[providers.local] secret: a secret is expected: {REFERENCE}"),
    ],
)
def test_a_mistake_says_where_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    assert said_of(tmp_path, text) == [f"agenthost.toml: {said}"]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = '[spec]\ncpu = "2"\n[agent]\nmodle = "x"\n[agent.env]\nMY_TOKEN = "abc"\n'
    assert said_of(tmp_path, text) == [
        f"agenthost.toml: [agent.env] MY_TOKEN: a secret is expected: {REFERENCE}",
        "agenthost.toml: [agent] modle: there is no such key. Did you mean 'model'?",
        "agenthost.toml: [spec] cpu: expected a number, found text",
    ]


def test_mistakes_of_every_kind_are_told_in_one_error_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types, names of providers, unset secrets, values of sandboxes and bounds, options, variables."""
    monkeypatch.setenv("AGENTHOST_PROVIDER", "locale")
    monkeypatch.setenv("AGENTHOST_SPEC__MEMORY_MIB", "much")
    text = """
    [spec]
    cpu = "2"
    name = "Upper"
    workdir = "app"
    mounts = [3]
    [[spec.inject]]
    host = "a"
    header = "b"
    secret = { env = "NOT_SET_1" }
    [agent.env]
    A_TOKEN = { env = "NOT_SET_2" }
    [agent.mcp_servers.db]
    command = "x"
    env = { PGPASSWORD = { env = "NOT_SET_3" } }
    [limits]
    close = inf
    start = inf
    [providers.lcal]
    a = 1
    """
    unset = "is not set: set it, or remove this key"
    assert said_of(tmp_path, text) == [
        f"agenthost.toml: [agent.env] A_TOKEN: the environment variable NOT_SET_2 {unset}",
        f"agenthost.toml: [agent.mcp_servers.db.env] PGPASSWORD: the environment variable NOT_SET_3 {unset}",
        "agenthost.toml: [limits] close: Limits.close is inf; it must be a number, at least 0",
        "agenthost.toml: [limits] start: Limits.start is inf; it must be a number, at least 0",
        (
            "agenthost.toml: [providers] lcal: there is no provider 'lcal'. Did you mean 'local'? "
            f"Known are: {KNOWN}"
        ),
        "agenthost.toml: [spec] cpu: expected a number, found text",
        f"agenthost.toml: [spec] inject[0].secret: the environment variable NOT_SET_1 {unset}",
        (
            "agenthost.toml: [spec] mounts[0]: expected a table { source = ..., target = ... }, found a "
            "whole number"
        ),
        (
            "agenthost.toml: [spec] name: sandbox name 'Upper': use 1 to 63 lower-case letters, digits and "
            "dashes, beginning with a letter or digit"
        ),
        "agenthost.toml: [spec] workdir: workdir 'app' is not an absolute path",
        (
            f"environment variable AGENTHOST_PROVIDER: there is no provider 'locale'. Did you mean 'local'? "
            f"Known are: {KNOWN}"
        ),
        "environment variable AGENTHOST_SPEC__MEMORY_MIB: expected a whole number, found text",
    ]


def test_the_chosen_providers_options_and_secrets_are_told_beside_the_rest(tmp_path: Path) -> None:
    text = """
    [agent]
    modle = "x"
    [providers.local]
    bwarp = 1
    site = 2
    secret = { env = "NOT_SET" }
    """
    assert said_of(tmp_path, text) == [
        "agenthost.toml: [agent] modle: there is no such key. Did you mean 'model'?",
        "agenthost.toml: [providers.local] bwarp: there is no such key. Did you mean 'bwrap'?",
        (
            "agenthost.toml: [providers.local] secret: the environment variable NOT_SET is not set: "
            "set it, or remove this key"
        ),
        "agenthost.toml: [providers.local] site: expected text, found a whole number",
    ]


def test_mistakes_of_one_kind_are_told_as_that_kind(tmp_path: Path) -> None:
    text = '[agent.env]\nA_TOKEN = { env = "NOT_SET_1" }\nB_TOKEN = { env = "NOT_SET_2" }\n'
    assert len(said_of(tmp_path, text, MissingCredentialError)) == 2
    text = 'provider = "locale"\n[providers.lcal]\na = 1\n'
    assert len(said_of(tmp_path, text, UnknownProviderError)) == 2


@pytest.mark.parametrize(
    "text",
    [
        f'model = "{SECRET}"',
        f'[agent]\nmodel = "{SECRET}"',
        f'[agent]\npermission_mode = "{SECRET}"',
        f'[agent]\nallowed_tools = ["{SECRET}"]',
        f'[agent]\nmax_turns = "{SECRET}"',
        f'[agent]\n"{SECRET}" = 1',
        f'[agent]\nsettings = "{{\\"env\\": {{\\"ANTHROPIC_API_KEY\\": \\"{SECRET}\\"}}}}"',
        f'[spec]\nnetwork = {{ allow = ["{SECRET}"] }}',
        f'[spec]\nnetwork = {{ "{SECRET}" = 1 }}',
        f'[spec.labels]\nkey = "{SECRET}"',
        f'[providers.local]\nbwrap = "{SECRET}"',
        f'[providers."{SECRET}"]\na = 1',
        f'[agent.env]\nA = {{ env = "{SECRET}" }}',
        f"[agent]\nmodel = {SECRET}",
    ],
)
def test_what_looks_like_a_key_is_refused_wherever_it_stands_and_never_shown(
    tmp_path: Path, text: str
) -> None:
    assert SECRET not in "\n".join(said_of(tmp_path, text))


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_GITHUB", raising=False)
    said = "the environment variable MY_GITHUB is not set: set it, or remove this key"
    for text, place in (
        ('[agent.env]\nGITHUB_TOKEN = { env = "MY_GITHUB" }', "[agent.env] GITHUB_TOKEN"),
        (
            '[[spec.inject]]\nhost = "a"\nheader = "b"\nsecret = { env = "MY_GITHUB" }',
            "[spec] inject[0].secret",
        ),
        ('[providers.local]\nsecret = { env = "MY_GITHUB" }', "[providers.local] secret"),
        (
            '[agent.mcp_servers.db]\ncommand = "x"\nenv = { PGPASSWORD = { env = "MY_GITHUB" } }',
            "[agent.mcp_servers.db.env] PGPASSWORD",
        ),
    ):
        assert said_of(tmp_path, text, MissingCredentialError) == [f"agenthost.toml: {place}: {said}"]
    monkeypatch.setenv("MY_GITHUB", "")
    text = '[agent.env]\nGITHUB_TOKEN = { env = "MY_GITHUB" }'
    assert said_of(tmp_path, text, MissingCredentialError)[0].endswith(said)


def test_a_provider_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    said = f"there is no provider 'locale'. Did you mean 'local'? Known are: {KNOWN}"
    for text, place in (
        ('provider = "locale"', "provider"),
        ("[providers.locale]\na = 1", "[providers] locale"),
    ):
        found = said_of(tmp_path, text, UnknownProviderError)
        assert found == [f"agenthost.toml: {place}: {said}"]


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    assert said_of(tmp_path, "provider = ") == [
        "the config agenthost.toml is no TOML: Invalid value (at end of document)"
    ]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, binary = tmp_path / "none.toml", tmp_path / "binary.toml"
    binary.write_bytes(b'provider = "\xff"')
    for path, why in (
        (missing, "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (binary, "is not UTF-8: invalid start byte"),
    ):
        with pytest.raises(ConfigError) as raised:
            load_config(path)
        assert str(raised.value) == f"the config {path} {why}"
    monkeypatch.setenv("AGENTHOST_CONFIG", str(missing))
    with pytest.raises(ConfigError) as raised:
        load_config()
    said = f"the config {missing} (from AGENTHOST_CONFIG) cannot be read: No such file or directory"
    assert str(raised.value) == said


def test_with_nothing_to_read_it_says_what_could_be_and_looks_for_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agenthost.toml").write_text('provider = "local-unisolated"')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_config()
    assert str(raised.value) == (
        "there is no config to read: name a file, or set AGENTHOST_CONFIG to one, or set what it would hold, "
        "as AGENTHOST_PROVIDER; ./agenthost.toml is read by the agenthost command alone"
    )


@pytest.mark.parametrize(
    "text",
    [
        "sk-ant-x",
        "ghp_" + "a" * 20,
        "xoxb-" + "1" * 12,
        "AKIA" + "A" * 16,
        "ASIA" + "A" * 16,
        "AIza" + "a" * 35,
        "npm_" + "a" * 36,
        "hf_" + "a" * 34,
        "pypi-AgE" + "a" * 20,
        "sk_live_" + "a" * 24,
        f"AWS_SECRET_ACCESS_KEY={'a/' * 20}",
        'Authorization: "Basic dXNlcjpwYXNzd29yZA=="',
        "Bearer abcdefgh",
        "https://user:pass@host/",
    ],
)
def test_what_looks_like_a_secret_is_masked_as_a_whole(text: str) -> None:
    assert looks_secret(text)
    masked = mask_secrets(f"say {text} twice", "[secret]")
    assert masked.startswith("say ")
    assert masked.endswith(" twice")
    assert not any(part in masked for part in (text[-6:], text[4:10]))


@pytest.mark.parametrize(
    "text", ["a Basic understanding of it", "pypi-server-with-a-long-name", "hf_short", "secret_key"]
)
def test_words_are_not_taken_for_secrets(text: str) -> None:
    assert not looks_secret(text)


@pytest.mark.parametrize("name", ["PGPASSWORD", "SSH_PASSPHRASE", "GITHUB_TOKEN"])
def test_a_variable_of_such_a_name_holds_a_secret(name: str) -> None:
    assert names_secret(name)


def test_the_values_of_an_environment_are_not_shown_by_repr() -> None:
    assert "a-password" not in repr(SandboxSpec(env={"PGPASSWORD": "a-password"}))

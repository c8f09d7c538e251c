"""``agenthost config check``: what would be used, from where, and what is wrong; secrets never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Done, run_agenthost
from support.installed import PROVIDER, environment_with, install, write_module
from support.written import write

SECRET = "sk-ant-api03-0123456789abcdef"
TEXT = """
provider = "local-unisolated"

[spec]
max_lifetime = 600
labels = { team = "a" }

[agent]
model = "haiku"
allowed_tools = ["Bash"]

[agent.env]
GITHUB_TOKEN = { env = "MY_GITHUB" }
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run once: the command is a process of its own."""
    return "asyncio"


async def check(directory: Path, *arguments: str, env: dict[str, str] | None = None) -> Done:
    done = await run_agenthost("config", "check", *arguments, cwd=directory, env=env)
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


async def test_it_tells_each_value_with_where_it_comes_from(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    other = "AGENTHOST_AGENT__ENV__OTHER_TOKEN"
    env = {"MY_GITHUB": SECRET, "AGENTHOST_AGENT__MODEL": "opus", other: SECRET}
    done = await check(tmp_path, env=env)
    assert done.exit_code == 0, done.stdout
    values = [
        ("provider", '"local-unisolated"', "agenthost.toml"),
        ("[spec] max_lifetime", "600", "agenthost.toml"),
        ("[spec.labels] team", '"a"', "agenthost.toml"),
        ("[agent] model", '"opus"', "AGENTHOST_AGENT__MODEL"),
        ("[agent] allowed_tools", '["Bash"]', "agenthost.toml"),
        ("[agent.env] GITHUB_TOKEN", "the environment variable MY_GITHUB", "agenthost.toml"),
        ("[agent.env] OTHER_TOKEN", f"the environment variable {other}", other),
    ]
    lines = [f"  {key.ljust(24)} = {value}  ({source})" for key, value, source in values]
    assert done.stdout.splitlines() == ["config: agenthost.toml", *lines, "Nothing is wrong with it."]


async def test_json_tells_the_same(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    done = await check(tmp_path, "agenthost.toml", "--json", env={"MY_GITHUB": SECRET})
    assert done.exit_code == 0
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["path"], said["ok"], said["provider"]) == ("agenthost.toml", True, "local-unisolated")
    assert (said["problems"], said["notes"]) == ([], [])
    assert {"key": "[agent] model", "value": "haiku", "source": "agenthost.toml"} in said["values"]
    token = {"key": "[agent.env] GITHUB_TOKEN", "value": {"env": "MY_GITHUB"}, "source": "agenthost.toml"}
    assert token in said["values"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[spec]\nlifetime = 1",
            "agenthost.toml: [spec] lifetime: there is no such key. Did you mean 'max_lifetime'?",
        ),
        (
            '[agent.env]\nA_TOKEN = { env = "MY_MISSING" }',
            (
                "agenthost.toml: [agent.env] A_TOKEN: the environment variable MY_MISSING is not set: "
                "set it, or remove this key"
            ),
        ),
        (
            "[providers.local-unisolated]\nbwrap = 1",
            (
                "agenthost.toml: [providers.local-unisolated] bwrap: there is no such key. "
                "Known are: secret, site, state_dir"
            ),
        ),
        (
            'provider = "local-unisolated"\n[spec]\nnetwork = "none"',
            "network=none: local-unisolated shares the host's network",
        ),
        (
            'provider = "local-unisolated"\n[spec.provider_options]\ntmp_mib = 3',
            "provider_options has 'tmp_mib'; the local-unisolated provider knows: none",
        ),
        (
            'provider = "local-unisolated"\n[agent]\ncredentials = "provider"',
            (
                "credentials='provider': provider 'local-unisolated' adds no headers to requests; use "
                "credentials='host', which keeps the key on this machine, too"
            ),
        ),
        (
            'provider = "local"\n[agent]\ncredentials = "env"',
            (
                "credentials='env' needs a network in the sandbox, and this one on provider 'local' has "
                "none: give spec=SandboxSpec(network=NetworkPolicy.open()), or use credentials='host', "
                "which needs none"
            ),
        ),
        (
            'provider = "local-unisolated"\n[agent]\npermission_mode = "bypassPermissions"',
            (
                "permission_mode='bypassPermissions' on provider 'local-unisolated', which isolates nothing: "
                "the agent could do anything to this machine without asking. Use an isolated provider, or "
                "SafeDefaults(refuse_unisolated_bypass=None)"
            ),
        ),
        ("x = ", "the config agenthost.toml is no TOML: Invalid value (at end of document)"),
    ],
)
async def test_what_is_wrong_is_told_and_exits_with_2(tmp_path: Path, text: str, problem: str) -> None:
    write(tmp_path, text)
    done = await check(tmp_path, "--json")
    said: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], said["problems"]) == (2, False, [problem])
    done = await check(tmp_path)
    assert done.exit_code == 2
    assert f"wrong: {problem}" in done.stdout.splitlines()


async def test_while_something_is_wrong_no_value_is_shown(tmp_path: Path) -> None:
    write(tmp_path, f'[agent]\nmodel = "{SECRET}"\nuser = "somebody"')
    done = await check(tmp_path)
    assert done.exit_code == 2
    assert "somebody" not in done.stdout


async def test_what_is_wrong_with_this_machine_alone_is_a_note(tmp_path: Path) -> None:
    write(tmp_path, 'provider = "local"')
    done = await check(tmp_path, "--json", env={"PATH": str(tmp_path)})
    said: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, said["problems"]) == (0, [])
    assert "bubblewrap" in said["notes"][0]


async def test_with_nothing_to_check_it_says_what_could_be(tmp_path: Path) -> None:
    done = await check(tmp_path)
    assert done.exit_code == 2
    assert "there is no config to read" in done.stdout


async def test_every_mistake_is_a_line_and_those_of_each_providers_table_are_among_them(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        """
        provider = "locale"
        [spec]
        cpu = "2"
        [agent.env]
        A_TOKEN = { env = "NOT_SET" }
        [providers.local-unisolated]
        bwrap = 1
        """,
    )
    done = await check(tmp_path, "--json")
    said: dict[str, Any] = json.loads(done.stdout)
    places = ["[agent.env] A_TOKEN", "[providers.local-unisolated] bwrap", "[spec] cpu", "provider"]
    assert [problem.split(": ")[1] for problem in said["problems"]] == places
    ran = await run_agenthost("run", "go", "--provider", "local-unisolated", cwd=tmp_path)
    assert ran.exit_code == 2
    assert [line.split("agenthost.toml: ")[1].split(":")[0] for line in ran.stderr.splitlines()[1:]] == places


async def test_a_fault_of_an_adapter_is_one_problem_and_no_traceback(tmp_path: Path) -> None:
    fault = "    def check(self, spec):\n        spec.labels['agenthost/nonce']\n"
    write_module(tmp_path, "acme", PROVIDER.format(name="acme") + fault)
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider"})
    write(tmp_path, 'provider = "acme"')
    done = await check(tmp_path, env=environment_with(tmp_path))
    assert done.exit_code == 2
    said = "the adapter of provider 'acme' has a fault: its check() raised KeyError: 'agenthost/nonce'"
    assert said in " ".join(done.stdout.split())

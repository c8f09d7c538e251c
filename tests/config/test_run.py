"""``agenthost run`` with a config: it says what it reads, options win, and some things want an option."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.command_line import run_agenthost
from support.hosting import model_environment
from support.written import write

from agenthost.testing import ScriptedModel, Text, ToolUse

KEY = "sk-ant-run-0123456789"
SETTINGS = "can start programs, end questions and lead the credential elsewhere: --allow settings"
HEAD = (
    "agenthost: agenthost.toml says what counts only when the command line says it, too; if it is meant, add"
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run once: the command is a process of its own."""
    return "asyncio"


async def test_it_reads_the_file_that_lies_there_and_says_so_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, '[agent]\nmodel = "claude-from-the-file"\nallowed_tools = ["Bash"]\n')
    script = [ToolUse("Bash", {"command": "true"}), Text("Done.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        arguments = ("run", "go", "--provider", "local-unisolated", "--allow", "code", "--json")
        done = await run_agenthost(*arguments, env=model_environment(model, KEY), cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("agenthost: ")]
    assert said == ["agenthost: settings from agenthost.toml"]
    assert model.turns[0].model == "claude-from-the-file"
    assert not model.turns[1].tool_results[0].is_error


async def test_options_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[agent]\nmodel = "claude-one"\nmax_turns = 9\nallowed_tools = ["Bash"]\n')
    path.rename(tmp_path / "other.toml")
    tools = [ToolUse("Bash", {"command": "true"}), ToolUse("Bash", {"command": "true"})]
    async with ScriptedModel(tools, api_key=KEY) as model:
        env = {
            **model_environment(model, KEY),
            "AGENTHOST_PROVIDER": "local-unisolated",
            "AGENTHOST_AGENT__MODEL": "claude-two",
        }
        arguments = ("run", "go", "--config", "other.toml", "--max-turns", "1")
        done = await run_agenthost(*arguments, env=env, cwd=tmp_path)
    assert done.exit_code == 1, done.stderr
    assert (len(model.turns), model.turns[0].model) == (1, "claude-two")
    line = "agenthost: settings from other.toml, AGENTHOST_AGENT__MODEL, AGENTHOST_PROVIDER"
    assert line in done.stderr.splitlines()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            'provider = "local-unisolated"',
            ["provider isolates nothing: --provider local-unisolated"],
        ),
        (
            '[spec]\nnetwork = "open"',
            ["[spec] network opens the network to the sandbox: --network open"],
        ),
        (
            '[spec]\nnetwork = { allow = ["pypi.org"] }',
            ["[spec] network opens the network to the sandbox: --allow network"],
        ),
        (
            '[[spec.mounts]]\nsource = "/etc"\ntarget = "/mnt"',
            ["[spec] mounts shows files of this machine to the agent: --allow mounts"],
        ),
        (
            '[audit]\nlevel = "full"\ndirectory = "/srv"',
            ["[audit] directory writes files on this machine: --allow audit"],
        ),
        (
            '[agent]\npermission_mode = "bypassPermissions"',
            ["[agent] permission_mode lets the agent do anything without asking: --allow bypass"],
        ),
        (
            "[agent.extra_args]\ndangerously-skip-permissions = true",
            [f"[agent.extra_args] dangerously-skip-permissions {SETTINGS}"],
        ),
        (
            """[agent.extra_args]\nsettings = '{"env": {"ANTHROPIC_BASE\\u005fURL": "http://x"}}'""",
            [f"[agent.extra_args] settings {SETTINGS}"],
        ),
        (
            """[agent]\nsettings = '{"env": {"ANTHROPIC_BASE\\u005fURL": "http://x"}}'""",
            [f"[agent] settings {SETTINGS}"],
        ),
        (
            """[agent]\nsettings = '{"permissions": {"defaultMode": "bypassPermissions"}}'""",
            [f"[agent] settings {SETTINGS}"],
        ),
        ('[agent]\nsettings = "settings.json"', [f"[agent] settings {SETTINGS}"]),
        ('[agent]\nsetting_sources = ["project"]', [f"[agent] setting_sources {SETTINGS}"]),
        (
            '[agent.defaults]\nsetting_sources = ["project"]',
            [f"[agent.defaults] setting_sources {SETTINGS}"],
        ),
        ("[agent]\nskills = []", [f"[agent] skills {SETTINGS}"]),
        (
            "[agent.defaults]\nrefuse_unisolated_bypass = false",
            [
                (
                    "[agent.defaults] refuse_unisolated_bypass lets the agent do anything without asking: "
                    "--allow bypass"
                )
            ],
        ),
        (
            "[agent.defaults]\nrefuse_model_egress = false",
            [
                (
                    "[agent.defaults] refuse_model_egress lets the model's service reach further than the "
                    "sandbox: --allow network"
                )
            ],
        ),
        (
            '[agent.defaults]\nother_fields = ["x"]',
            [
                (
                    "[agent.defaults] other_fields lets fields reach the model's service unchecked: "
                    "--allow network"
                )
            ],
        ),
        (
            '[agent]\ndefaults = "sdk"',
            [
                "[agent] defaults lets the agent do anything without asking: --allow bypass",
                f"[agent] defaults {SETTINGS}",
            ],
        ),
        (
            '[agent]\ncredentials = "env"',
            ["[agent] credentials takes the credential elsewhere: --credentials env"],
        ),
        (
            '[agent.env]\nANTHROPIC_BASE_URL = "https://example.com"',
            ["[agent.env] ANTHROPIC_BASE_URL leads the credential to another address: --allow base-url"],
        ),
        (
            '[agent.env]\nNOTE = { env = "HOME" }',
            ["[agent.env] NOTE hands out a secret of this machine: --allow secrets"],
        ),
        (
            '[[spec.inject]]\nhost = "a"\nheader = "b"\nsecret = { env = "HOME" }',
            ["[spec] inject hands out a secret of this machine: --allow secrets"],
        ),
        (
            '[providers.local]\nbwrap = "./bwrap"',
            [
                (
                    "[providers.local] bwrap tells a provider what to run or whom to ask: "
                    "--allow provider-options"
                )
            ],
        ),
        (
            '[spec]\nnetwork = "open"\n[agent]\ncredentials = "env"',
            [
                "[spec] network opens the network to the sandbox: --network open",
                "[agent] credentials takes the credential elsewhere: --credentials env",
            ],
        ),
    ],
)
async def test_what_weakens_or_redirects_is_refused_with_the_option_that_allows_it(
    tmp_path: Path, text: str, wanted: list[str]
) -> None:
    write(tmp_path, text)
    done = await run_agenthost("run", "go", env={"ANTHROPIC_API_KEY": KEY}, cwd=tmp_path)
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert lines == ["agenthost: settings from agenthost.toml", HEAD, *[f"  {line}" for line in wanted]]


async def test_settings_are_asked_about_whatever_the_file_is_called(tmp_path: Path) -> None:
    write(tmp_path, '[agent]\nsettings = "settings.json"').rename(tmp_path / "other.toml")
    arguments = ("run", "go", "--config", "other.toml")
    done = await run_agenthost(*arguments, env={"ANTHROPIC_API_KEY": KEY}, cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"  [agent] settings {SETTINGS}"


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_what_the_command_line_says_as_well_is_done(tmp_path: Path) -> None:
    text = """
    [spec]
    network = "open"
    [[spec.mounts]]
    source = "/usr/share"
    target = "/mnt/share"
    [agent]
    permission_mode = "bypassPermissions"
    [agent.env]
    NOTE = { env = "MY_NOTE" }
    """
    write(tmp_path, text)
    command = "printf %s $NOTE; test -d /mnt/share && grep -c : /proc/net/dev"
    script = [ToolUse("Bash", {"command": command}), Text("Done.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        allowed = [word for kind in ("bypass", "mounts", "secrets") for word in ("--allow", kind)]
        done = await run_agenthost(
            *("run", "go", "--network", "open", *allowed),
            env={**model_environment(model, KEY), "MY_NOTE": "noted"},
            cwd=tmp_path,
        )
    assert done.exit_code == 0, done.stderr
    assert model.turns[1].tool_results[0].text.startswith("noted")
    assert not model.turns[1].tool_results[0].is_error


async def test_what_variables_say_is_the_users_own(tmp_path: Path) -> None:
    async with ScriptedModel([Text("Done.")], api_key=KEY) as model:
        env = {
            **model_environment(model, KEY),
            "AGENTHOST_PROVIDER": "local-unisolated",
            "AGENTHOST_SPEC__NETWORK": "open",
            "AGENTHOST_AGENT__ENV__MY_TOKEN": "mine",
        }
        done = await run_agenthost("run", "go", env=env, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr


async def test_mistakes_are_told_and_nothing_is_made(tmp_path: Path) -> None:
    write(tmp_path, "[agent]\nmodle = 1\n")
    done = await run_agenthost("run", "go", env={"ANTHROPIC_API_KEY": KEY}, cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "agenthost: settings from agenthost.toml",
        "agenthost: agenthost.toml: [agent] modle: there is no such key. Did you mean 'model'?",
    ]

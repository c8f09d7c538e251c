"""``agenthost run`` with a config that lies there: what can run programs outside wants an option."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.command_line import run_agenthost
from support.written import write

from agenthost.cli.run_code import OPENING, PLAIN, PLAIN_DEFAULTS, STARTED
from agenthost.config.agent_table import AgentTable, DefaultsTable
from agenthost.testing import ScriptedModel, Text

KEY = "sk-ant-run-0123456789"
CODE = "can run programs on this machine, isolated by nothing: --allow code"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run once: the command is a process of its own."""
    return "asyncio"


async def test_where_nothing_isolates_what_can_run_programs_is_refused_with_the_option_that_allows_it(
    tmp_path: Path,
) -> None:
    text = """
    [spec.env]
    LD_PRELOAD = "evil.so"
    [agent]
    model = "haiku"
    permission_mode = "auto"
    allowed_tools = ["Bash"]
    cli_path = "/bin/evil"
    add_dirs = []
    disallowed_tools = ["WebFetch"]
    setting_sources = []
    strict_mcp_config = true
    system_prompt = { type = "preset", preset = "claude_code", append = "Be brief." }
    plugins = [{ type = "local", path = "/plugin" }]
    [agent.env]
    NODE_OPTIONS = "--import=data:text/javascript,evil()"
    [agent.mcp_servers.one]
    command = "sh"
    args = ["-c", "evil"]
    [agent.agents.two]
    description = "Runs it."
    prompt = "Run it."
    mcpServers = [{ evil = { command = "evil" } }]
    [agent.sandbox]
    autoAllowBashIfSandboxed = true
    [agent.defaults]
    max_turns = 3
    config_dir = "/home/somebody/.claude"
    strict_mcp_config = false
    """
    write(tmp_path, text)
    wanted = [
        "[spec.env] LD_PRELOAD",
        "[agent] permission_mode",
        "[agent] allowed_tools",
        "[agent] cli_path",
        "[agent] plugins",
        "[agent.env] NODE_OPTIONS",
        "[agent.mcp_servers] one",
        "[agent.agents] two",
        "[agent.sandbox] autoAllowBashIfSandboxed",
        "[agent.defaults] config_dir",
        "[agent.defaults] strict_mcp_config",
    ]
    arguments = ("run", "go", "--provider", "local-unisolated")
    done = await run_agenthost(*arguments, env={"ANTHROPIC_API_KEY": KEY}, cwd=tmp_path)
    assert done.exit_code == 2
    said = [line.strip() for line in done.stderr.splitlines()[-len(wanted) :]]
    assert said == [f"{place} {CODE}" for place in wanted]


async def test_a_server_that_the_file_names_starts_on_this_machine_when_that_is_allowed(
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    write(tmp_path, f'[agent.mcp_servers.x]\ncommand = "touch"\nargs = ["{started}"]\n')
    arguments = ("run", "go", "--provider", "local-unisolated")
    async with ScriptedModel([Text("Done.")], api_key=KEY) as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY}
        refused = await run_agenthost(*arguments, env=env, cwd=tmp_path)
        assert (refused.exit_code, started.exists()) == (2, False)
        done = await run_agenthost(*arguments, "--allow", "code", env=env, cwd=tmp_path)
    assert (done.exit_code, started.exists()) == (0, True), done.stderr


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_where_the_key_is_inside_what_could_take_it_is_refused_with_the_option_that_allows_it(
    tmp_path: Path,
) -> None:
    text = """
    [agent]
    allowed_tools = ["Bash"]
    [agent.env]
    HTTPS_PROXY = "http://example.com"
    [agent.mcp_servers.one]
    command = "evil"
    """
    write(tmp_path, text)
    arguments = ("run", "go", "--credentials", "env", "--network", "open")
    done = await run_agenthost(*arguments, env={"ANTHROPIC_API_KEY": KEY}, cwd=tmp_path)
    assert done.exit_code == 2
    what = "can give the key in the sandbox to a program: --allow code"
    said = done.stderr.splitlines()[-2:]
    assert said == [f"  [agent.env] HTTPS_PROXY {what}", f"  [agent.mcp_servers] one {what}"]


def test_what_is_told_apart_are_options_that_exist() -> None:
    assert set(AgentTable.model_fields) >= PLAIN | OPENING | STARTED
    assert set(DefaultsTable.model_fields) >= PLAIN_DEFAULTS

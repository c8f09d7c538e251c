"""Options that say which tools there are, where they may work and who is asked."""

from __future__ import annotations

import json
from typing import Any

from claude_agent_sdk import AgentDefinition
from parity.scenario import Run, one_answer, scenario
from parity.stdio_mcp import SERVER

from agenthost.testing import Text, ToolUse

ANSWER = [Text("Done.")]
MAKE_FILE = ToolUse("Bash", {"command": "echo made > made.txt"}, id="toolu_make")
WRITE_FILE = ToolUse("Bash", {"command": "ls; cat made.txt 2>&1"}, id="toolu_look")


def _bash(command: str, name: str = "toolu_1") -> ToolUse:
    return ToolUse("Bash", {"command": command}, id=name)


@scenario(
    "option:tools", script=ANSWER, options={"tools": ["Read", "Bash"]}, shows=('"tools": ["Bash", "Read"]',)
)
async def tools_by_name(run: Run) -> None:
    await one_answer(run)


@scenario("option:tools", script=ANSWER, options={"tools": []}, shows=('"tools": []',))
async def no_tools(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:allowed_tools class:ToolUseBlock class:ToolResultBlock class:UserMessage",
    script=[
        [_bash("echo 'a \"b\" \u00fc'"), _bash("exit 3", "toolu_2"), _bash("touch no", "toolu_3")],
        Text("Done."),
    ],
    options={"allowed_tools": ["Bash(echo:*)", "Bash(exit:*)"]},
    shows=("Exit code 3", "permission_denied"),
    on=("local-unisolated", "local"),
)
async def allowed_tools(run: Run) -> None:
    await one_answer(run)
    await run.see_file("no")


@scenario(
    "option:disallowed_tools",
    script=[_bash("echo one"), Text("Done.")],
    options={"allowed_tools": ["Bash"], "disallowed_tools": ["Bash", "WebFetch"]},
    shows=("No such tool available: Bash",),
)
async def disallowed_tools(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:cwd",
    script=[_bash("pwd; ls"), Text("Done.")],
    files={"sub dir/one.txt": "1\n"},
    options=lambda run: {"cwd": f"{run.work}/sub dir", "allowed_tools": ["Bash"]},
    shows=("sub dir\\none.txt",),
)
async def cwd(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:add_dirs",
    script=lambda run: [
        ToolUse("Read", {"file_path": f"{run.home}/more/a.txt"}, id="toolu_1"),
        Text("Done."),
    ],
    files={"../home/more/a.txt": "from another directory\n"},
    options=lambda run: {"add_dirs": [f"{run.home}/more"]},
    shows=("from another directory",),
)
async def add_dirs(run: Run) -> None:
    await one_answer(run)


# ---- permission modes


def _writes(run: Run) -> list[Any]:
    write = ToolUse("Write", {"file_path": f"{run.work}/new.txt", "content": "new\n"}, id="toolu_1")
    return [write, _bash("rm -f new.txt", "toolu_2"), Text("Done.")]


@scenario("mode:default option:permission_mode", script=_writes, options={"permission_mode": "default"})
async def permission_mode_default(run: Run) -> None:
    await one_answer(run)
    await run.see_file("new.txt")


@scenario(
    "mode:acceptEdits",
    script=_writes,
    options={"permission_mode": "acceptEdits"},
    on=("local-unisolated", "local"),
)
async def permission_mode_accept_edits(run: Run) -> None:
    await one_answer(run)
    await run.see_file("new.txt")


@scenario("mode:plan", script=_writes, options={"permission_mode": "plan"})
async def permission_mode_plan(run: Run) -> None:
    await one_answer(run)
    await run.see_file("new.txt")


@scenario(
    "mode:bypassPermissions",
    script=_writes,
    options={"permission_mode": "bypassPermissions", "env": {"IS_SANDBOX": "1"}},
)
async def permission_mode_bypass_permissions(run: Run) -> None:
    await one_answer(run)
    await run.see_file("new.txt")


@scenario("mode:dontAsk", script=_writes, options={"permission_mode": "dontAsk"})
async def permission_mode_dont_ask(run: Run) -> None:
    await one_answer(run)
    await run.see_file("new.txt")


@scenario("mode:auto", script=[Text("Done.")], options={"permission_mode": "auto"})
async def permission_mode_auto(run: Run) -> None:
    await one_answer(run)


# ---- settings


@scenario(
    "option:settings",
    script=[_bash("touch one.txt"), Text("Done.")],
    options={
        "settings": json.dumps({"permissions": {"allow": ["Bash(touch:*)"]}, "model": "claude-sonnet-4-6"})
    },
    shows=("claude-sonnet-4-6",),
)
async def settings_as_json(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one.txt")


@scenario(
    "option:settings",
    script=ANSWER,
    files={"own settings.json": json.dumps({"env": {"WHO": "a file"}, "model": "claude-sonnet-4-6"})},
    options=lambda run: {"settings": f"{run.work}/own settings.json"},
    shows=("claude-sonnet-4-6",),
)
async def settings_from_a_file(run: Run) -> None:
    await one_answer(run)


PROJECT = {
    ".claude/settings.json": json.dumps({"model": "claude-sonnet-4-6"}),
    "CLAUDE.md": "Always answer in verse.\n",
    ".claude/skills/rhyme/SKILL.md": "---\nname: rhyme\ndescription: Finds rhymes.\n---\nRhyme.\n",
    ".claude/skills/count/SKILL.md": "---\nname: count\ndescription: Counts words.\n---\nCount.\n",
    ".claude/commands/greet.md": "Say hello to $ARGUMENTS.\n",
}


@scenario("option:setting_sources", script=ANSWER, files=PROJECT, shows=("in verse", "claude-sonnet-4-6"))
async def settings_of_the_project_are_read_by_default(run: Run) -> None:
    await one_answer(run)


@scenario("option:setting_sources", script=ANSWER, files=PROJECT, options={"setting_sources": []})
async def no_setting_sources(run: Run) -> None:
    await one_answer(run)


@scenario("method:query", script=ANSWER, files=PROJECT, shows=("Say hello to the world.",))
async def a_command_of_the_project(run: Run) -> None:
    await run.ask("/greet the world")


@scenario(
    "option:skills",
    script=[ToolUse("Skill", {"skill": "rhyme"}, id="toolu_1"), Text("Done.")],
    files=PROJECT,
    options={"skills": ["rhyme"]},
    shows=("Finds rhymes.",),
)
async def skills_by_name(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:skills",
    script=[ToolUse("Skill", {"skill": "count"}, id="toolu_1"), Text("Done.")],
    files=PROJECT,
    options={"skills": "all"},
    shows=("Counts words.", "Launching skill: count"),
)
async def all_skills(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:plugins",
    script=ANSWER,
    files={
        "plugin/.claude-plugin/plugin.json": json.dumps({"name": "parrot", "version": "1.2.3"}),
        "plugin/commands/squawk.md": "---\ndescription: Squawks.\n---\nSquawk $ARGUMENTS.\n",
    },
    options=lambda run: {"plugins": [{"type": "local", "path": f"{run.work}/plugin"}]},
    shows=("parrot:squawk", "Squawk loudly."),
)
async def plugins(run: Run) -> None:
    await run.ask("/parrot:squawk loudly")


@scenario(
    "option:sandbox option:settings error:ResultError",
    connects=False,
    script=[Text("Done.")],
    shows=("Sandbox required but unavailable", '"model": "claude-sonnet-4-6"'),
    masks=("stderr of a CLI that died",),
)
async def sandbox_settings_beside_settings(run: Run) -> None:
    settings = json.dumps({"model": "claude-sonnet-4-6"})
    # Where it finds no programs the CLI's own sandbox cannot work, and the CLI refuses to start.
    wanted: dict[str, Any] = {"enabled": True, "failIfUnavailable": True}
    await run.refused(sandbox=wanted, settings=settings, env={"PATH": f"{run.home}/none"})
    async with run.open(sandbox={"enabled": False}, settings=settings) as client:
        await run.ask("Go on.", client)


# ---- agents and MCP servers


@scenario(
    "option:agents class:AgentDefinition",
    script=ANSWER,
    options={
        "agents": {
            "poet": AgentDefinition(
                description="Writes \u00fc poems.", prompt="You rhyme.", tools=["Read"], model="haiku"
            )
        }
    },
    shows=("Writes \\u00fc poems.",),
)
async def agents_are_offered(run: Run) -> None:
    await one_answer(run)


def _stdio(run: Run) -> dict[str, Any]:
    return {"type": "stdio", "command": "python3", "args": [f"{run.work}/server.py"], "env": {"WHO": "stdio"}}


CALL = [ToolUse("mcp__own__greet", {"name": "Zo\u00eb"}, id="toolu_1"), Text("Done.")]


@scenario(
    "option:mcp_servers",
    script=CALL,
    files={"server.py": SERVER},
    options=lambda run: {"mcp_servers": {"own": _stdio(run)}, "allowed_tools": ["mcp__own__greet"]},
    shows=("Hello Zo\\u00eb from stdio",),
)
async def an_mcp_server_of_the_machine(run: Run) -> None:
    await run.wait_for_servers()
    await one_answer(run)
    await run.call("get_mcp_status")


@scenario(
    "option:mcp_servers",
    script=CALL,
    files={
        "server.py": SERVER,
        "mcp.json": '{"mcpServers": {"own": {"command": "python3", "args": ["server.py"]}}}',
    },
    options=lambda run: {"mcp_servers": f"{run.work}/mcp.json", "allowed_tools": ["mcp__own__greet"]},
    shows=("Hello Zo\\u00eb from",),
)
async def mcp_servers_from_a_file(run: Run) -> None:
    await run.wait_for_servers()
    await one_answer(run)


OF_THE_PROJECT = {
    "server.py": SERVER,
    ".mcp.json": '{"mcpServers": {"of-the-project": {"command": "python3", "args": ["server.py"]}}}',
}


@scenario(
    "option:strict_mcp_config",
    script=ANSWER,
    files=OF_THE_PROJECT,
    options={"strict_mcp_config": True, "settings": '{"enableAllProjectMcpServers": true}'},
)
async def strict_mcp_config(run: Run) -> None:
    await one_answer(run)
    await run.call("get_mcp_status")


@scenario(
    "option:strict_mcp_config",
    script=ANSWER,
    files=OF_THE_PROJECT,
    options={"settings": '{"enableAllProjectMcpServers": true}'},
    shows=("of-the-project",),
)
async def mcp_servers_of_the_project(run: Run) -> None:
    await run.wait_for_servers()
    await one_answer(run)
    await run.call("get_mcp_status")


@scenario(
    "option:permission_prompt_tool_name",
    script=[_bash("touch one.txt"), _bash("touch forbidden.txt", "toolu_2"), Text("Done.")],
    files={"server.py": SERVER},
    options=lambda run: {
        "mcp_servers": {"own": _stdio(run)},
        "permission_prompt_tool_name": "mcp__own__approve",
    },
    shows=("the server says no",),
)
async def permissions_asked_of_an_mcp_tool(run: Run) -> None:
    await run.wait_for_servers()
    await one_answer(run)
    await run.see_file("one.txt")
    await run.see_file("forbidden.txt")


@scenario(
    "method:get_mcp_status method:toggle_mcp_server method:reconnect_mcp_server",
    script=[Text("Without."), Text("With.")],
    files={"server.py": SERVER},
    options=lambda run: {"mcp_servers": {"own": _stdio(run)}},
    shows=("reconnect_mcp_server raised",),
    masks=("a refusal of the CLI",),
)
async def mcp_servers_are_switched_and_connected_anew(run: Run) -> None:
    await run.call("toggle_mcp_server", "own", enabled=False)
    await run.call("get_mcp_status")
    await run.ask("What tools?")
    await run.call("toggle_mcp_server", "own", True)
    await run.call("reconnect_mcp_server", "own")
    await run.call("reconnect_mcp_server", "none")
    await run.call("get_mcp_status")
    await run.ask("And now?")


@scenario(
    "option:cwd option:settings option:add_dirs option:system_prompt option:plugins",
    script=lambda run: [
        ToolUse("Read", {"file_path": f"{run.work}/more/a.txt"}, id="toolu_1"),
        Text("Done."),
    ],
    files={
        "sub dir/own.json": json.dumps({"model": "claude-sonnet-4-6"}),
        "sub dir/prompt.md": "From a file.\n",
        "sub dir/plugin/.claude-plugin/plugin.json": json.dumps({"name": "parrot", "version": "1.2.3"}),
        "sub dir/plugin/commands/squawk.md": "---\ndescription: Squawks.\n---\nSquawk $ARGUMENTS.\n",
        "more/a.txt": "from another directory\n",
    },
    options={
        "cwd": "sub dir",
        "settings": "own.json",
        "add_dirs": ["../more"],
        "system_prompt": {"type": "file", "path": "prompt.md"},
        "plugins": [{"type": "local", "path": "plugin"}],
    },
    shows=("claude-sonnet-4-6", "from another directory", "From a file.", "parrot:squawk"),
)
async def relative_paths_begin_where_the_cli_runs(run: Run) -> None:
    await one_answer(run)

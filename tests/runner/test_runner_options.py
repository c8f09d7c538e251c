"""Options become the CLI's arguments, and what is secret becomes files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from support.runner_process import run_runner

from agenthost.testing import FakeCLI

LIMIT = 60
SECRET = "hunter2-ünï \U0001f511"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


async def report(directory: Path, **options: Any) -> dict[str, Any]:
    """Run one turn and return what the CLI was given."""
    with anyio.fail_after(LIMIT):
        async with run_runner(directory, AGENTHOST_TOKEN=SECRET) as runner:
            cli = FakeCLI([FakeCLI.report(directory / "record")])
            await runner.connect(cli_path=cli.write(directory / "claude"), **options)
            await runner.query("hello")
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()
    assert not list((directory / "tmp").iterdir())
    told: dict[str, Any] = json.loads((directory / "record").read_text())
    return told


async def refuse(directory: Path, encoded: dict[str, Any], version: str = "9.9.9") -> dict[str, Any]:
    """Connect with encoded options and return the error that ended it."""
    with anyio.fail_after(LIMIT):
        async with run_runner(directory) as runner:
            await runner.send("connect", options=encoded, sdk_version=version)
            end = await runner.rest()
    error: dict[str, Any] = end["error"]
    return error


def argument(told: dict[str, Any], flag: str) -> str:
    argv: list[str] = told["argv"]
    return argv[argv.index(flag) + 1]


def the_file(told: dict[str, Any], flag: str) -> str:
    file = told["files"][argument(told, flag)]
    assert file["modes"] == ["0o600", "0o700"]
    text: str = file["text"]
    return text


async def test_plain_options_reach_the_cli(tmp_path: Path) -> None:
    told = await report(
        tmp_path,
        model="some-model",
        max_turns=7,
        allowed_tools=["Read", "Edit"],
        add_dirs=[Path("/srv/data")],
        setting_sources=[],
        strict_mcp_config=True,
        cwd=tmp_path / "home",
        env={"GREETING": "häi"},
        extra_args={"debug-to-stderr": None},
    )

    assert argument(told, "--model") == "some-model"
    assert argument(told, "--max-turns") == "7"
    assert argument(told, "--allowedTools") == "Read,Edit"
    assert argument(told, "--add-dir") == "/srv/data"
    assert {"--setting-sources=", "--strict-mcp-config", "--debug-to-stderr"} <= set(told["argv"])
    assert (told["env"]["GREETING"], told["env"]["PWD"]) == ("häi", str(tmp_path / "home"))


async def test_the_runners_own_variables_do_not_reach_the_cli(tmp_path: Path) -> None:
    told = await report(tmp_path)

    assert not [name for name in told["env"] if name.startswith(("AGENTHOST", "PYDANTIC"))]
    assert SECRET not in json.dumps(told["env"])


async def test_headers_of_mcp_servers_are_in_a_file(tmp_path: Path) -> None:
    server = {"type": "http", "url": "https://example.com", "headers": {"Authorization": SECRET}}

    told = await report(tmp_path, mcp_servers={"one": server})

    assert json.loads(the_file(told, "--mcp-config")) == {"mcpServers": {"one": server}}
    assert SECRET not in " ".join(told["argv"])


async def test_inline_mcp_config_is_in_a_file_and_a_path_stays_a_path(tmp_path: Path) -> None:
    text = json.dumps({"mcpServers": {"one": {"command": "x", "env": {"KEY": SECRET}}}})

    inline = await report(tmp_path, mcp_servers=text)
    (tmp_path / "mcp.json").write_text('{"mcpServers": {}}')
    path = await report(tmp_path, mcp_servers=tmp_path / "mcp.json")

    assert the_file(inline, "--mcp-config") == text
    assert argument(path, "--mcp-config") == str(tmp_path / "mcp.json")


async def test_inline_settings_are_in_a_file(tmp_path: Path) -> None:
    text = json.dumps({"env": {"KEY": SECRET}})

    told = await report(tmp_path, settings=text)

    assert the_file(told, "--settings") == text
    assert "hunter2" not in " ".join(told["argv"])


async def test_settings_of_a_path_are_merged_with_the_sandbox_option_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("\ufeff" + json.dumps({"model": "m", "env": {"KEY": SECRET}}))

    told = await report(tmp_path, settings="s.json", cwd=str(tmp_path), sandbox={"enabled": True})

    merged = json.loads(the_file(told, "--settings"))
    assert merged == {"model": "m", "env": {"KEY": SECRET}, "sandbox": {"enabled": True}}


async def test_settings_that_cannot_be_read_are_a_connection_error(tmp_path: Path) -> None:
    error = await refuse(tmp_path, {"settings": "/no/such/file", "sandbox": {"enabled": True}})

    assert error["type"] == "CLIConnectionError"
    assert "Failed to load settings" in error["message"]


@pytest.mark.parametrize(
    ("prompt", "flag"),
    [
        (SECRET, "--system-prompt-file"),
        (SECRET * 20_000, "--system-prompt-file"),
        ({"type": "custom", "prompt": SECRET}, "--system-prompt-file"),
        ({"type": "custom", "prompt": SECRET, "snapshot": True}, "--system-prompt-file"),
        ({"type": "preset", "preset": "claude_code", "append": SECRET}, "--append-system-prompt-file"),
    ],
    ids=["text", "long", "custom", "snapshot", "append"],
)
async def test_the_text_of_a_system_prompt_is_in_a_file(tmp_path: Path, prompt: Any, flag: str) -> None:
    told = await report(tmp_path, system_prompt=prompt)

    expected = prompt if isinstance(prompt, str) else prompt.get("prompt", prompt.get("append"))
    assert the_file(told, flag) == expected
    assert "hunter2" not in " ".join(told["argv"])
    assert "--system-prompt" not in told["argv"]


async def test_no_system_prompt_stays_none(tmp_path: Path) -> None:
    assert argument(await report(tmp_path), "--system-prompt") == ""


async def test_an_option_that_the_sdk_lacks_is_refused_by_name_with_both_versions(tmp_path: Path) -> None:
    error = await refuse(tmp_path, {"telepathy": True, "model": "m"})

    assert error["type"] == "UnsupportedError"
    assert "'telepathy'" in error["message"]
    assert "9.9.9" in error["message"]
    assert claude_agent_sdk.__version__ in error["message"]
    assert "'model'" not in error["message"]


async def test_a_field_inside_an_option_that_the_sdk_lacks_is_refused_by_name(tmp_path: Path) -> None:
    agent = {"$type": "AgentDefinition", "description": "d", "prompt": "p", "mood": "good"}

    error = await refuse(tmp_path, {"agents": {"a": agent}, "plugins": [{"$type": "Plugin2"}]})

    assert error["type"] == "UnsupportedError"
    assert "agents['a'].mood" in error["message"]
    assert "Plugin2 in option 'plugins[0]'" in error["message"]


@pytest.mark.parametrize(
    ("encoded", "name"),
    [
        ({"hooks": {}}, "hooks"),
        ({"can_use_tool": None}, "can_use_tool"),
        ({"mcp_servers": {"mine": {"type": "sdk", "name": "mine"}}}, "mine"),
    ],
)
async def test_what_holds_functions_is_refused_by_name(
    tmp_path: Path, encoded: dict[str, Any], name: str
) -> None:
    error = await refuse(tmp_path, encoded)

    assert error["type"] == "UnsupportedError"
    assert name in error["message"]


async def test_another_version_on_the_host_is_told_and_no_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.connect("0.0.1", cli_path=FakeCLI().write(tmp_path / "claude"))
            ready = await runner.until("state", state="ready")
            connected = await runner.until("state", state="connected")
            await runner.send("end")
            await runner.rest()

    assert ready["sdk_version"] == claude_agent_sdk.__version__
    assert connected["same_version"] is False

"""What the sandbox has for an SDK: none, a broken one, or another version than the host."""

from __future__ import annotations

import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.errors import BootstrapError, ConfigError, UnsupportedError
from agenthost.testing import Text

LIMIT = 120


def site_with_another_version(folder: Path, version: str, *, without_option: str) -> Path:
    """Return a directory that holds the host's SDK under another version, and one option less."""
    spec = find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folder.mkdir()
    for entry in package.parent.iterdir():
        if entry.name != package.name:
            (folder / entry.name).symlink_to(entry)
    own = folder / package.name
    shutil.copytree(package, own, ignore=shutil.ignore_patterns("_bundled", "__pycache__"))
    (own / "_bundled").symlink_to(package / "_bundled")  # 360 MiB
    (own / "_version.py").write_text(f'__version__ = "{version}"\n')
    for source in own.rglob("*.py"):
        text = source.read_text()
        if without_option in text:
            source.write_text(text.replace(without_option, f"{without_option}_renamed"))
    return folder


@pytest.fixture
def other_site(tmp_path: Path) -> Path:
    """Return one of version 0.0.1 that does not know ``verbatim_prompts``."""
    return site_with_another_version(tmp_path / "site", "0.0.1", without_option="verbatim_prompts")


@pytest.fixture
def own_site(tmp_path: Path) -> Path:
    """Return an empty directory that a sandbox can read."""
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def closed_site(tmp_path: Path) -> Path:
    """Return one that only its owner can read."""
    tmp_path.chmod(0o700)
    return tmp_path


async def test_a_sandbox_without_the_sdk_says_what_is_missing(own_site: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider("local", site=str(own_site)) as provider:
            with pytest.raises(BootstrapError, match="No module named 'claude_agent_sdk'"):
                await HostedAgent(provider=provider).connect()
            sandbox = await provider.create(SandboxSpec())
            with pytest.raises(BootstrapError, match=r"provider=.*agenthost bake"):
                await HostedAgent(sandbox=sandbox).connect()
            await sandbox.terminate()
            assert [info.id async for info in provider.list()] == []


async def test_a_broken_sdk_is_told_with_what_broke(own_site: Path) -> None:
    package = own_site / "claude_agent_sdk"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    with anyio.fail_after(LIMIT):
        async with open_provider("local", site=str(own_site)) as provider:
            with pytest.raises(BootstrapError, match="half installed"):
                await HostedAgent(provider=provider).connect()
            assert [info.id async for info in provider.list()] == []


async def test_another_version_inside_works_and_is_told(
    other_site: Path, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(LIMIT), caplog.at_level(logging.WARNING, logger="agenthost"):
        async with (
            script(Text("hello")),
            open_provider("local-unisolated", site=str(other_site)) as provider,
            HostedAgent(ClaudeAgentOptions(max_turns=2), provider=provider) as agent,
        ):
            await agent.query("hi")
            messages = [message async for message in agent.receive_response()]
        result = messages[-1]
        assert isinstance(result, ResultMessage)
        assert result.result == "hello"
    assert "the sandbox has claude-agent-sdk 0.0.1" in caplog.text


async def test_an_option_that_only_the_host_knows_is_refused_with_both_versions(other_site: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider("local-unisolated", site=str(other_site)) as provider:
            with pytest.raises(UnsupportedError) as caught:
                await HostedAgent(ClaudeAgentOptions(verbatim_prompts=True), provider=provider).connect()
            assert [info.id async for info in provider.list()] == []
    for part in ("'verbatim_prompts'", "0.0.1", "the host has"):
        assert part in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only a sandbox of root runs as another user")
async def test_packages_that_only_root_can_read_are_named_with_the_remedy(closed_site: Path) -> None:
    async with open_provider("local", site=str(closed_site)) as provider:
        with pytest.raises(ConfigError, match="chmod -R o"):
            await HostedAgent(provider=provider).connect()


async def test_a_site_that_is_no_directory_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    async with open_provider("local", site=str(tmp_path / "nowhere")) as provider:
        with pytest.raises(ConfigError, match="nowhere"):
            await HostedAgent(provider=provider).connect()

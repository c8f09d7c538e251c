"""The page on configuration says what is true: its program runs on every provider, its files load."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import anyio
import pytest
from docker.docker_engine import DockerEngine
from support.command_line import environment, run_agenthost

from agenthost.cli.allow import Allow
from agenthost.config import load_config
from agenthost.testing import ScriptedModel, Text, ToolUse

PAGE = (Path(__file__).parent.parent.parent / "docs" / "configuration.md").read_text()
SMALL, WHOLE = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[:2]
PROGRAM = next(
    text
    for text in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if "anyio.run" in text
)
KEY = "sk-ant-page"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run once: the programs are processes of their own."""
    return "asyncio"


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, provider: str) -> dict[str, str]:
    """Return what a provider needs in the environment; skip where it is not there."""
    if provider == "local" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if provider == "docker":
        engine: DockerEngine = request.getfixturevalue("docker_engine")
        request.getfixturevalue("baked")
        return {"DOCKER_HOST": engine.host}
    return {}


@pytest.mark.parametrize(
    "provider",
    ["local", *(pytest.param(name, marks=pytest.mark.full) for name in ("local-unisolated", "docker"))],
)
async def test_the_program_runs_on_another_provider_when_one_line_is_another(
    tmp_path: Path, surroundings: dict[str, str], provider: str
) -> None:
    config = SMALL.replace('provider = "local"\n', f'provider = "{provider}"\n')
    lines = zip(SMALL.splitlines(), config.splitlines(), strict=True)
    assert sum(one != other for one, other in lines) == (provider != "local")
    (tmp_path / "agenthost.toml").write_text(config)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "code.py").write_text("one\ntwo\n")
    script = [ToolUse("Bash", {"command": "wc -l < code.py > count.txt"}), Text("Counted.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        changes = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY, **surroundings}
        argv = [sys.executable, "-c", PROGRAM]
        done = await anyio.run_process(argv, env=environment(changes), cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()
    assert "Counted." in done.stdout.decode()
    assert (tmp_path / "out" / "count.txt").read_text().strip() == "2"


def test_the_whole_file_loads_with_every_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r'\{ env = "(\w+)" \}', WHOLE):
        monkeypatch.setenv(name, "a secret of this test")
    (tmp_path / "agenthost.toml").write_text(WHOLE)
    config = load_config(tmp_path / "agenthost.toml")
    assert config.options["env"] == {"GITHUB_TOKEN": "a secret of this test"}
    assert config.limits is not None
    assert config.spec.mounts


def test_the_variables_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exports = [shlex.split(line)[1] for line in block.splitlines() if line.startswith("export ")]
    for export in exports:
        name, _, value = export.partition("=")
        monkeypatch.setenv(name, value)
    config = load_config()
    assert config.provider.options == {"state_dir": "/var/lib/agents"}
    assert config.spec.limits.pids == 200
    assert config.options["allowed_tools"] == ["Read", "Bash(git *)"]


async def test_the_options_of_the_command_exist() -> None:
    usage = (await run_agenthost("run", "--help")).stdout
    for option in set(re.findall(r"`(--[a-z]+)", PAGE)) - {"--json"}:
        assert option in usage
    assert set(re.findall(r"`--allow ([a-z-]+)`", PAGE)) == {kind.value for kind in Allow}

"""How the runner starts, and what it says where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from support.old_python import old_python
from support.runner_process import build_zipapp, run_runner

from agenthost.adapter.boot import runner_zipapp
from agenthost.testing import FakeCLI

LIMIT = 60


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


def bare_python(directory: Path) -> str:
    """Make an environment of the same Python without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory / "bare")], check=True)
    return str(directory / "bare" / "bin" / "python")


async def test_a_sandbox_without_the_sdk_is_a_bootstrap_error_that_says_so(tmp_path: Path) -> None:
    archive = build_zipapp(tmp_path / "runner.pyz")
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, command=[bare_python(tmp_path), "-I", str(archive)]) as runner:
            end = await runner.rest()  # it looks for the SDK before it reads anything

    assert end["error"]["type"] == "BootstrapError"
    assert "claude-agent-sdk" in end["error"]["message"]
    assert "No module named 'claude_agent_sdk'" in end["error"]["message"]
    assert "/bare/bin/python" in end["error"]["message"]


async def test_packages_may_be_in_a_directory_given_by_site(tmp_path: Path) -> None:
    archive = build_zipapp(tmp_path / "runner.pyz")
    packages = str(Path(anyio.__file__).parents[1])
    command = [bare_python(tmp_path), "-I", str(archive), "--site", packages]
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, command=command) as runner:
            await runner.connect(cli_path=FakeCLI().write(tmp_path / "claude"))
            await runner.query("hello")
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    assert runner.messages("AssistantMessage")[0].content[0].text == "hello"


async def test_a_package_that_is_half_installed_is_a_bootstrap_error(tmp_path: Path) -> None:
    broken = tmp_path / "site" / "claude_agent_sdk"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('half a package')")
    archive = build_zipapp(tmp_path / "runner.pyz")
    command = [bare_python(tmp_path), "-I", str(archive), "--site", str(broken.parent)]
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, command=command) as runner:
            end = await runner.rest()

    assert end["error"]["type"] == "BootstrapError"
    assert "half a package" in end["error"]["message"]


async def test_what_is_printed_inside_goes_to_stderr_and_not_into_the_journal(tmp_path: Path) -> None:
    noisy = tmp_path / "site" / "claude_agent_sdk"
    noisy.mkdir(parents=True)
    (noisy / "__init__.py").write_text(
        "import os, sys; print('noise'); os.write(1, b'more noise'); assert not sys.stdin.read()"
    )
    archive = build_zipapp(tmp_path / "runner.pyz")
    command = [bare_python(tmp_path), "-I", str(archive), "--site", str(noisy.parent)]
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, command=command) as runner:
            end = await runner.rest()

    assert "no ClaudeSDKClient" in end["error"]["message"]


async def test_it_can_be_ended_before_it_was_asked_anything(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.close_input()
            end = await runner.rest()

    assert end["error"] is None


async def test_an_operation_that_it_does_not_know_is_a_wire_version_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.send("levitate")
            end = await runner.rest()

    assert end["error"]["type"] == "WireVersionError"
    assert "levitate" in end["error"]["message"]


async def test_a_line_that_is_no_json_ends_it_with_an_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            assert runner.process.stdin is not None
            await runner.process.stdin.send(b"this is no json\n")
            end = await runner.rest()

    assert end["error"]["type"] == "JSONDecodeError"


LOADING = """
import json, logging, sys
logging.basicConfig(level=logging.WARNING)
sys.path[:0] = {path!r}
from agenthost.runner.sdk import load, reload_with_mcp
first = load()
loaded = sorted({{name.partition(".")[0] for name in sys.modules}} & {{"mcp", "jsonschema"}})
import mcp.types
again = reload_with_mcp()
base = again.module.ToolAnnotations.__mro__[1].__module__
print(json.dumps([first.has_mcp, loaded, hasattr(mcp.types, "Tool"), again.has_mcp, base]))
"""


def load_in_a_process(*path: str) -> tuple[list[object], str]:
    program = LOADING.format(path=list(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return json.loads(done.stdout), done.stderr


def test_the_sdk_is_imported_without_mcp_and_again_with_it() -> None:
    told, errors = load_in_a_process()

    has_mcp, loaded, is_real, later, base = told
    assert (has_mcp, loaded, is_real, later) == (False, [], True, True)
    assert str(base).startswith("mcp")
    assert errors == ""


def test_an_sdk_that_needs_mcp_at_its_import_gets_it_and_that_is_said_once(tmp_path: Path) -> None:
    package = tmp_path / "claude_agent_sdk"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import mcp.types\n"
        "class ClaudeSDKClient: pass\n"
        "class ToolAnnotations(mcp.types.ToolAnnotations): pass\n"
        "ToolAnnotations(title='made at import')\n"
    )

    told, errors = load_in_a_process(str(tmp_path))

    assert told[0] is True
    assert errors.count("cannot be imported without") == 1
    assert "ToolAnnotations was not loaded" in errors


def test_its_memory_is_closed_to_its_neighbours() -> None:
    program = (
        "import ctypes, json\n"
        "from agenthost.runner.process import harden\n"
        "harden()\n"
        "print(json.dumps([ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)]))\n"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert json.loads(said.stdout) == [0]


def test_the_runner_starts_on_python_3_10(tmp_path: Path) -> None:
    python = old_python()
    (tmp_path / "runner.pyz").write_bytes(runner_zipapp())
    argv = [python, "-I", "-S", str(tmp_path / "runner.pyz")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env={}) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        assert runner.stderr is not None
        runner.stdin.write(b'{"op":"connect","options":{},"sdk_version":"0.0.0"}\n')
        runner.stdin.flush()
        last = [json.loads(line) for line in runner.stdout][-1]
        # Without the SDK it says so: nothing of its own was in the way.
        assert last["kind"] == "end"
        assert "claude" in json.dumps(last["error"]).lower()
        assert b"Traceback" not in runner.stderr.read()

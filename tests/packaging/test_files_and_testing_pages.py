"""The programs of the pages on files and on testing run as they stand."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.command_line import environment

from agenthost import SandboxSpec, open_provider
from agenthost.errors import SandboxNotFoundError

DOCS = Path(__file__).parent.parent.parent / "docs"
LIMIT = 120.0  # seconds until a program is taken to hang


def programs(page: str) -> list[str]:
    """Return the programs of a page."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


async def test_the_program_of_the_page_on_files_runs(tmp_path: Path) -> None:
    (program,) = programs("files.md")
    env = environment({"TMPDIR": str(tmp_path)})
    with anyio.fail_after(LIMIT):
        done = await anyio.run_process([sys.executable, "-c", program], env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()
    said = done.stdout.decode().splitlines()
    assert said[0] == "1 files, left out: ['.env']"
    assert said[-2:] == ["2 files: hello", "False"]
    assert "0o644" in said


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(0, id="agent"),
        pytest.param(1, id="sandbox", marks=pytest.mark.full),
        pytest.param(2, id="edge", marks=pytest.mark.full),
        pytest.param(3, id="cloud", marks=pytest.mark.full),
        pytest.param(4, id="fixtures", marks=pytest.mark.full),
    ],
)
async def test_the_tests_of_the_page_on_testing_pass(tmp_path: Path, number: int) -> None:
    text = programs("testing.md")[number]
    name = text.splitlines()[0].removeprefix("# ")
    await anyio.Path(tmp_path, name).write_text(text)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    with anyio.fail_after(LIMIT):
        done = await anyio.run_process(argv, env=environment(), cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert re.search(r"\b\d+ passed", done.stdout.decode())


async def test_the_cells_of_the_page_on_testing_run_each_in_a_task_of_its_own() -> None:
    cells = programs("testing.md")[-1].split("\n\n")
    names: dict[str, Any] = {"open_provider": open_provider, "SandboxSpec": SandboxSpec}

    async def run(cell: str) -> None:
        made = eval(compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # as IPython does
        if inspect.isawaitable(made):
            await made

    with anyio.fail_after(LIMIT):
        for cell in cells:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, cell)
    async with open_provider(names["provider"].name) as again:
        with pytest.raises(SandboxNotFoundError):
            await again.get(names["sandbox"].id)

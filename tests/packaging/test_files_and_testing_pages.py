"""The programs of the pages on files and on testing run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio
import pytest
from support.command_line import environment

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
        pytest.param(2, id="cloud", marks=pytest.mark.full),
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

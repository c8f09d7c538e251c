"""Images of emulators are built by their own steps, which change nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest
from support.waiting import until_true

from agenthost.testing.emulators.base.image_build import ImageBuild

LIMIT = 60


async def test_what_a_step_writes_is_in_the_image_and_nowhere_else(tmp_path: Path) -> None:
    build = ImageBuild(tmp_path / "image", {"GIVEN": "yes"})
    printed: list[str] = []
    script = (
        "mkdir -p /opt/agenthost/site && echo $GIVEN > /opt/agenthost/site/made && echo one && echo two >&2"
    )
    with anyio.fail_after(LIMIT):
        assert await build.run(["sh", "-c", script], printed.append) == 0
        assert await build.run(["sh", "-c", "cat /opt/agenthost/site/made; exit 3"], printed.append) == 3
        outside = f"touch {tmp_path}/outside /usr/outside"
        assert await build.run(["sh", "-c", outside], printed.append) != 0
    assert printed[:3] == ["one", "two", "yes"]
    assert (build.site / "made").read_text() == "yes\n"
    assert not any(Path(folder, "outside").exists() for folder in (tmp_path, "/usr"))  # noqa: ASYNC240 - local


async def test_its_python_is_the_one_that_machines_have(tmp_path: Path) -> None:
    printed: list[str] = []
    program = "import sys; print(sys.version_info >= (3, 10))"
    with anyio.fail_after(LIMIT):
        assert await ImageBuild(tmp_path).run(["python3", "-I", "-c", program], printed.append) == 0
    assert printed == ["True"]


async def test_a_step_outlives_the_thread_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.01)  # ten seconds else
    build = ImageBuild(tmp_path)
    step = "echo begun; until [ -e /opt/agenthost/go ]; do sleep 0.02; done; echo done"
    printed: list[str] = []
    begun = anyio.Event()

    def on_line(line: str) -> None:
        printed.append(line)
        begun.set()

    async def let_it_go_on() -> None:
        await begun.wait()
        await until_true(lambda: not any("rio" in thread.name for thread in threading.enumerate()))
        (tmp_path / "go").touch()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_it_go_on)
            assert await build.run(["sh", "-c", step], on_line) == 0
    assert printed == ["begun", "done"]


async def test_a_step_that_is_cancelled_is_killed_with_what_it_started(tmp_path: Path) -> None:
    build = ImageBuild(tmp_path)
    fifo = "mkfifo /opt/agenthost/held; (exec 9<>/opt/agenthost/held; echo begun; sleep 600) & wait"
    with anyio.fail_after(LIMIT), anyio.CancelScope() as scope:
        await build.run(["sh", "-c", fifo], lambda line: scope.cancel() if line == "begun" else None)
    assert scope.cancelled_caught

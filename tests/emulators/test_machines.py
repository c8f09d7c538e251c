"""What stands behind every emulator: machines of their own, and a bootstrap that works on them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex

from agenthost.adapter.boot import make_boot
from agenthost.adapter.bootstrap import Bootstrap, bootstrap_command, bootstrap_files
from agenthost.errors import BootstrapError
from agenthost.link.layout import GuestLayout
from agenthost.testing.emulators.base.machines import Account, Machine, Machines

LIMIT = 120
DIRECTORY = "/root/.agenthost"
LAYOUT = GuestLayout(
    workdir="/workspace",
    home="/root",
    spool_dir=f"{DIRECTORY}/spool",
    boot_dir=DIRECTORY,
    python=f"{DIRECTORY}/python",
    site_dirs=(f"{DIRECTORY}/site",),
    isolation="namespaces",
    user_is_root=True,
)


@pytest.fixture
async def machines() -> AsyncIterator[Machines]:
    async with Machines(Account("root", 0, "/root")) as made:
        yield made


async def bootstrap(machine: Machine, *, needs_sdk: bool, steps: list[str]) -> None:
    boot = make_boot(
        LAYOUT,
        control_verifier="0" * 64,
        guest_key=bytes(32),
        env={},
        lifetime=60,
        agent=None,
        compiled=False,
        needs_sdk=needs_sdk,
    )
    for name, data in bootstrap_files(boot).items():
        await machine.sandbox.write_file(f"{DIRECTORY}/{name}", data, mode=0o600)
    done = await machine.sandbox.exec(bootstrap_command(boot, DIRECTORY))
    progress = Bootstrap("one", bake="agenthost bake emulated", on_progress=steps.append)
    for byte in done.stdout:
        progress.feed(bytes([byte]))  # whatever pieces it comes in
    progress.finish(done.exit_code, done.stderr)


async def imports(machine: Machine, name: str) -> bool:
    program = f"import sys; sys.path.insert(0, {DIRECTORY + '/site'!r}); import {name}"
    return (await machine.sandbox.exec([f"{DIRECTORY}/python", "-I", "-c", program])).exit_code == 0


async def test_a_machine_is_what_its_provider_calls_it_and_a_program_outlives_who_started_it(
    machines: Machines,
) -> None:
    with anyio.fail_after(LIMIT):
        machine = await machines.make(workdir="/workspace", network=False, env={"GIVEN": "yes"})
        said = await machine.sandbox.exec(["sh", "-c", "id -un; id -u; echo $HOME $GIVEN; pwd"])
        assert said.stdout.decode().split() == ["root", "0", "/root", "yes", "/workspace"]
        process = await machine.start(["cat"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.send_stdin, b"still there")
        assert await process.receive_stdout() == b"still there"
        with pytest.raises(FileNotFoundError):
            await machine.start(["no-such-program"])
        await machine.end()
        await machine.end()


async def test_a_guest_starts_where_there_is_only_python(machines: Machines) -> None:
    with anyio.fail_after(LIMIT):
        machine = await machines.make(workdir="/workspace", network=False)
        steps: list[str] = []
        await bootstrap(machine, needs_sdk=False, steps=steps)
        listening = await machine.sandbox.exec(["test", "-S", f"{DIRECTORY}/guest.sock"])
        assert (listening.exit_code, steps) == (0, [])
        await bootstrap(machine, needs_sdk=False, steps=steps)  # once more after a lost answer


async def test_without_an_index_the_error_says_what_is_missing_and_what_makes_an_image(
    machines: Machines,
) -> None:
    with anyio.fail_after(LIMIT):
        machine = await machines.make(
            workdir="/workspace",
            network=False,
            env={"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"},
        )
        with pytest.raises(BootstrapError, match="a package index that has it within reach") as caught:
            await bootstrap(machine, needs_sdk=True, steps=[])
        assert "Make an image that has all of it: agenthost bake emulated" in str(caught.value)
        assert "claude-agent-sdk" in str(caught.value)  # what pip said
        left = await machine.sandbox.exec(["test", "-e", f"{DIRECTORY}/packages"])
        assert left.exit_code == 1


@pytest.mark.full
async def test_the_sdk_of_the_hosts_version_is_installed_from_an_index_with_progress(
    machines: Machines, package_index: PackageIndex
) -> None:
    with anyio.fail_after(LIMIT * 2):
        async with package_index.serving() as environment:
            machine = await machines.make(workdir="/workspace", network=True, env=environment)
            steps: list[str] = []
            await bootstrap(machine, needs_sdk=True, steps=steps)
        assert steps[0].startswith("installing claude-agent-sdk ")
        assert steps[-1].startswith("Successfully installed ")
        assert await imports(machine, "claude_agent_sdk")


async def test_what_an_image_brought_is_taken_before_anything_is_installed(
    machines: Machines, tmp_path: Path
) -> None:
    (tmp_path / "claude_agent_sdk").mkdir()
    (tmp_path / "claude_agent_sdk" / "__init__.py").write_text("")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    with anyio.fail_after(LIMIT):
        machine = await machines.make(workdir="/workspace", network=False, site=tmp_path)
        steps: list[str] = []
        await bootstrap(machine, needs_sdk=True, steps=steps)
        assert steps == []
        assert await imports(machine, "claude_agent_sdk")


@pytest.mark.parametrize(
    ("printed", "code", "said"),
    [
        (
            {"missing": ["Python 3.10 or newer", "bash"]},
            1,
            "lacks what an agent needs: Python 3.10 or newer, b",
        ),
        ({"failed": "OSError: no space"}, 1, "OSError: no space"),
        ({"say": "half way"}, 0, "did not start"),
        (None, 127, "sh: not found"),
    ],
)
def test_whatever_a_bootstrap_prints_its_error_tells(
    printed: dict[str, object] | None, code: int, said: str
) -> None:
    bootstrap = Bootstrap("one", bake=None)
    bootstrap.feed(b"sh: not found" if printed is None else json.dumps(printed).encode())
    with pytest.raises(BootstrapError, match=said):
        bootstrap.finish(code)

"""A sandbox's files as an image."""

from __future__ import annotations

import pytest

from agenthost.errors import ConfigError, SandboxGoneError
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import SandboxSpec
from agenthost.supports import SupportsSnapshot


@pytest.mark.parametrize("workdir", [None, "/project/sub"])
async def test_a_sandbox_begins_where_another_one_stood(
    provider: DockerProvider, engine: Engine, workdir: str | None
) -> None:
    spec = SandboxSpec(workdir=workdir)
    box = await provider.create(spec)
    image = ""
    try:
        fill = (
            "echo of the work > a; mkdir -p d/e; echo x > d/e/f; chmod 700 d; ln -s a link; echo rc > ~/.rc"
        )
        await box.exec(["bash", "-c", fill])
        await box.write_file("name with spaces \N{SNAKE}", b"\0\xff" * 100_000)
        assert isinstance(box.backend, SupportsSnapshot)
        image = await box.backend.snapshot()
        assert (await box.exec(["cat", "a"])).stdout == b"of the work\n"  # it goes on
        await box.terminate()
        with pytest.raises(SandboxGoneError):
            await box.backend.snapshot()
        again = await provider.create(SandboxSpec(image=image, workdir=workdir))
        try:
            look = "cat a link d/e/f ~/.rc; stat -c '%a %U' d a; touch new ~/new; ls ~/.. /var/lib/agenthost"
            said = await again.exec(["bash", "-c", look])
            assert said.stderr == b""
            assert said.stdout.decode().split("\n")[:6] == [
                "of the work",
                "of the work",
                "x",
                "rc",
                "700 agent",
                "644 agent",
            ]
            assert await again.read_file("name with spaces \N{SNAKE}") == b"\0\xff" * 100_000
            assert (await again.exec([again.layout.python, "-c", "print(1)"])).stdout == b"1\n"
        finally:
            await again.terminate()
    finally:
        await box.terminate()
        if image:
            await engine.ask("DELETE", f"/images/{image}")


async def test_nobody_begins_with_anothers_files_who_did_not_ask_for_them(
    provider: DockerProvider, engine: Engine
) -> None:
    box = await provider.create(SandboxSpec(workdir="/elsewhere"))
    other = None
    try:
        await box.write_file("secret", b"of the first")
        assert isinstance(box.backend, SupportsSnapshot)
        # Both are newer than what was baked, and were made from it.
        image = await box.backend.snapshot()
        other = await provider.create(SandboxSpec())
        assert (await other.exec(["ls", "-A", "/workspace", "/home/agent"])).stdout.split() == [
            b"/home/agent:",
            b"/workspace:",
        ]
        assert (await other.exec(["test", "-e", "/elsewhere"])).exit_code == 1
        await engine.ask("DELETE", f"/images/{image}")
    finally:
        await box.terminate()
        if other is not None:
            await other.terminate()


async def test_a_snapshot_has_the_name_it_was_given(provider: DockerProvider, engine: Engine) -> None:
    box = await provider.create(SandboxSpec())
    try:
        assert isinstance(box.backend, SupportsSnapshot)
        assert await box.backend.snapshot("before-lunch") == "agenthost/snapshot:before-lunch"
        await engine.ask("DELETE", "/images/agenthost/snapshot:before-lunch")
        with pytest.raises(ConfigError, match="no/tag"):
            await box.backend.snapshot("no/tag")
    finally:
        await box.terminate()

"""The two ways to a container's guest."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from docker.docker_engine import DockerEngine, needs_its_files
from docker.engine_proxy import engine_proxy
from support.inside import living
from support.waiting import until

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.docker.backend import DockerBackend
from agenthost.providers.docker.carriers import dial_by_exec, dial_by_socket
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.paths import GUEST
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import SandboxSpec

LIMIT = 60
DIAL = "dial"


def argv(box: GuestSandbox) -> list[str]:
    run = f"{box.layout.boot_dir}/run/guest.sock"
    return [box.layout.python, "-I", "-S", f"{box.layout.boot_dir}/guest.pyz", "dial", "--socket", run]


async def as_guest(engine: Engine, box: GuestSandbox, command: str) -> None:
    """Run a shell command with the rights of the guest, which nothing of the agent's has."""
    program = await dial_by_exec(engine, box.id, ["bash", "-c", f"{command} && echo done"], user=GUEST)
    try:
        with anyio.fail_after(LIMIT):
            printed = b""
            while data := await program.receive():
                printed += data
        assert printed.endswith(b"done\n"), program.stderr
    finally:
        await program.aclose()


async def test_a_dial_program_ends_when_its_carrier_is_closed(box: GuestSandbox, engine: Engine) -> None:
    # An engine kills nothing when a client goes away: the program has to see the end of its stdin.
    before = await living(box, DIAL)
    carrier = await dial_by_exec(engine, box.id, argv(box), user=GUEST)
    assert (await carrier.receive()).startswith(b"{")  # the guest says hello
    assert len(await living(box, DIAL)) == len(before) + 1
    await carrier.aclose()
    with anyio.fail_after(LIMIT):
        await until(lambda: living(box, DIAL), lambda left: left == before)


async def test_a_dial_program_ends_when_the_guest_closes_its_end(box: GuestSandbox, engine: Engine) -> None:
    before = await living(box, DIAL)
    carrier = await dial_by_exec(engine, box.id, argv(box), user=GUEST)
    try:
        await carrier.send(b"this is no frame\n")
        with anyio.fail_after(LIMIT):
            while await carrier.receive():
                pass
            await until(lambda: living(box, DIAL), lambda left: left == before)
    finally:
        await carrier.aclose()


async def test_what_a_dial_program_says_of_a_guest_that_is_not_there_is_kept(
    box: GuestSandbox, engine: Engine
) -> None:
    command = [*argv(box)[:-1], "/no/such/socket"]
    carrier = await dial_by_exec(engine, box.id, command, user=GUEST)
    try:
        with anyio.fail_after(LIMIT):
            assert await carrier.receive() == b""
        assert b"does not answer at /no/such/socket" in carrier.stderr
    finally:
        await carrier.aclose()


async def test_a_link_survives_the_loss_of_its_streams(box: GuestSandbox, engine: Engine) -> None:
    async with box.spawn(["cat"]) as cat:
        await cat.send_stdin(b"before\n")
        assert await cat.receive_stdout() == b"before\n"
        for pid in await living(box, DIAL):
            await as_guest(engine, box, f"kill -9 {pid}")
        await cat.send_stdin(b"behind\n")
        with anyio.fail_after(LIMIT):
            assert await cat.receive_stdout() == b"behind\n"


async def test_bytes_of_every_kind_and_many_of_them_pass(box: GuestSandbox) -> None:
    data = os.urandom(1 << 20) * 30 + bytes(range(256))
    await box.write_file("large", data)
    assert await box.read_file("large") == data
    await box.exec(["rm", "large"])


async def test_the_socket_is_dialled_where_it_can_be_reached(
    docker_engine: DockerEngine, provider: DockerProvider
) -> None:
    needs_its_files(docker_engine)
    del provider
    async with DockerProvider(host=docker_engine.host, carrier="socket") as near:
        box = await near.create(SandboxSpec())
        try:
            assert (await box.exec(["echo", "near"])).stdout == b"near\n"
            assert await living(box, DIAL) == []  # no program stands between
        finally:
            await box.terminate()


async def test_the_socket_is_refused_where_it_cannot_be_reached_before_anything_is_made(
    docker_engine: DockerEngine, provider: DockerProvider
) -> None:
    del provider
    # What lies behind a port may be another machine's.
    async with (
        engine_proxy(docker_engine.host) as address,
        DockerProvider(host=address, carrier="socket") as far,
    ):
        with pytest.raises(UnsupportedError, match="carrier='stdio'"):
            await far.create(SandboxSpec())


async def test_a_sandbox_cannot_have_the_host_speak_to_another_socket(
    docker_engine: DockerEngine, box: GuestSandbox, engine: Engine, tmp_path: Path
) -> None:
    needs_its_files(docker_engine)
    told = await engine.ask("GET", f"/containers/{box.id}/json")
    volume = next(one["Source"] for one in told["Mounts"] if one["Destination"] == box.layout.boot_dir)
    carrier = await dial_by_socket(volume)
    await carrier.aclose()
    assert isinstance(box.backend, DockerBackend)
    listening = await anyio.create_unix_listener(tmp_path / "victim")
    async with listening:
        move = "cd /var/lib/agenthost/run && mv guest.sock kept && "
        for trick in (f"ln -s {tmp_path}/victim guest.sock", "touch guest.sock", "mkdir guest.sock"):
            assert (await box.exec(["bash", "-c", move + trick])).exit_code != 0
            await as_guest(engine, box, move + trick)
            try:
                with pytest.raises(OSError, match=r".*"):
                    await dial_by_socket(volume)
            finally:
                back = "cd /var/lib/agenthost/run && rm -rf guest.sock && mv kept guest.sock"
                await as_guest(engine, box, back)


def test_a_carrier_of_another_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="stdio"):
        DockerProvider(carrier="pigeon")  # type: ignore[arg-type] # it is what is tested

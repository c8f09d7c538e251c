"""What a sandbox in a container is, seen from inside and by the engine."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from docker.docker_engine import DockerEngine
from support.waiting import until

from agenthost.errors import ConfigError, SandboxNotFoundError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.link.tokens import TokenMaker
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import HeaderInjection, Mount, NetworkPolicy, ResourceLimits, SandboxSpec
from agenthost.wire.tokens import CONTROL

INJECTED = HeaderInjection(host="h", header="x", secret="s")


async def shell(box: GuestSandbox, command: str) -> str:
    result = await box.exec(["bash", "-c", command])
    assert result.exit_code == 0, result
    return result.stdout.decode().strip()


async def test_the_tools_of_an_agent_are_there(box: GuestSandbox) -> None:
    said = await shell(box, "pwd; id -un; id -u; python3 -c 'print(6 * 7)'; sh -c 'echo $HOME $LANG'")
    assert said.splitlines() == ["/workspace", "agent", "1000", "42", "/home/agent C.UTF-8"]


async def test_the_sdk_and_its_cli_run_inside(box: GuestSandbox) -> None:
    program = "import sys; sys.path[:0] = sys.argv[1:]; import claude_agent_sdk as s; print(s.__file__)"
    result = await box.exec([box.layout.python, "-I", "-c", program, *box.layout.site_dirs])
    assert result.stdout.decode().strip() == "/opt/agenthost/site/claude_agent_sdk/__init__.py", result
    assert "Claude Code" in await shell(box, "/opt/agenthost/site/claude_agent_sdk/_bundled/claude --version")


async def test_an_image_holds_byte_code_that_is_used_as_it_is(box: GuestSandbox) -> None:
    program = "import sys; sys.path[:0] = sys.argv[1:]; import anyio; print(anyio.__cached__)"
    result = await box.exec([box.layout.python, "-I", "-c", program, *box.layout.site_dirs])
    cached = result.stdout.decode().strip()
    # A .pyc begins with four bytes of magic; then a flag: 1 is a hash that nobody checks.
    assert (await box.read_file(cached))[4:8] == b"\1\0\0\0"


async def test_only_its_own_directories_can_be_written(box: GuestSandbox) -> None:
    tries = "for f in /x /etc/x /usr/x /opt/agenthost/x; do touch $f 2>&1; done; true"
    said = await shell(box, tries)
    assert len(said.splitlines()) == 4
    assert all("Read-only file system" in line for line in said.splitlines())
    await shell(box, "for d in /workspace ~ /tmp /dev/shm; do echo 1 > $d/x && rm $d/x; done")


async def test_it_has_no_capability_and_gets_none(box: GuestSandbox) -> None:
    status = await shell(box, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
    found = dict(line.split() for line in status.splitlines())
    assert {found[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:")} == {"0" * 16}
    assert (found["NoNewPrivs:"], found["Seccomp:"]) == ("1", "2")


async def test_the_guests_socket_streams_and_keys_are_out_of_the_agents_reach(box: GuestSandbox) -> None:
    own = box.layout.boot_dir
    tries = [
        f"ls {own}/run",
        f"mv {own}/run {own}/moved",
        f"touch {own}/mine",
        f"ls {own}/spool",
        f"cat {own}/guest.pyz",
        f"{box.layout.python} -I {own}/guest.pyz dial --socket {own}/run/guest.sock",
        "cat /proc/1/environ",
        "cat /proc/1/maps",
        "kill -9 1",
        "kill -STOP 1",
    ]
    for attempt in tries:
        result = await box.exec(["bash", "-c", attempt])
        assert result.exit_code != 0, attempt
        assert b"ermission denied" in result.stderr or b"not permitted" in result.stderr, (attempt, result)
    # File calls are made by the guest, which is root, and have no more rights than the agent.
    for path in (f"{own}/run/guest.sock", f"{own}/guest.pyz", "/proc/1/environ"):
        with pytest.raises(PermissionError):
            await box.read_file(path)
    with pytest.raises(PermissionError):
        await box.write_file(f"{own}/runner.pyz", b"mine")


async def test_files_and_programs_belong_to_the_agent(box: GuestSandbox) -> None:
    await box.write_file("/workspace/private/file", b"data", mode=0o600)
    await shell(box, "chmod 700 /workspace/private; chmod 600 /workspace/private/file")
    assert await box.read_file("/workspace/private/file") == b"data"
    assert (
        await shell(box, "stat -c %u:%g /workspace/private /workspace/private/file") == "1000:1000\n1000:1000"
    )
    result = await box.exec(["bash", "-c", "id -u; id -G; pwd"], cwd="/workspace/private")
    assert result.stdout == b"1000\n1000\n/workspace/private\n"
    await shell(box, "rm -r /workspace/private")


async def test_it_has_no_network_but_its_own_loopback(box: GuestSandbox) -> None:
    assert (await shell(box, "cut -d: -f1 /proc/net/dev | tail -n +3")).split() == ["lo"]
    program = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    result = await box.exec(["python3", "-c", program])
    assert b"unreachable" in result.stderr
    assert (await box.info()).resources["network"] == "none"


async def test_no_socket_leads_to_the_hypervisor(box: GuestSandbox) -> None:
    program = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"
    result = await box.exec(["python3", "-c", program])
    assert b"Address family not supported" in result.stderr
    await shell(box, "python3 -c 'import socket; socket.socket(); socket.socket(socket.AF_UNIX)'")


async def test_nothing_inside_can_kill_or_stop_the_guest(box: GuestSandbox) -> None:
    assert "guest.pyz" in await shell(box, "tr '\\0' ' ' < /proc/1/cmdline")
    await shell(box, "kill -STOP 1; kill -KILL 1; kill -SEGV 1; true")
    assert await shell(box, "echo still here") == "still here"
    state = await shell(box, "cut -d' ' -f3 /proc/1/stat")
    assert state in ("S", "R")


async def test_orphans_are_collected(box: GuestSandbox) -> None:
    # Its parent ends first; the first process of the container gets it, and has to wait for it.
    await shell(box, "bash -c 'sleep 0.01 & disown' ; true")
    with anyio.fail_after(20):
        await until(
            lambda: shell(box, "ps -eo stat --no-headers | cut -c1"), lambda states: "Z" not in states
        )


async def test_its_environment_and_its_tokens_are_nowhere_that_the_engine_shows(
    box: GuestSandbox, engine: Engine
) -> None:
    assert await shell(box, "echo $OF_THE_SANDBOX") == "a-secret-value"
    told = await engine.ask("GET", f"/containers/{box.id}/json")
    top = await engine.ask("GET", f"/containers/{box.id}/top")
    everything = repr([told, top, dict((await box.info()).labels)])
    assert "a-secret-value" not in everything
    assert isinstance(box.token, TokenMaker)
    assert box.token.control() not in everything
    assert box.token.verifier("", CONTROL) not in everything
    assert box.token.guest_key().hex() not in everything


async def test_it_tells_what_it_really_got(provider: DockerProvider) -> None:
    spec = SandboxSpec(labels={"team": "a"}, max_lifetime=60, limits=ResourceLimits(memory_mib=300, cpu=0.5))
    box = await provider.create(spec)
    try:
        info = await box.info()
        assert (info.state, info.isolation, info.labels["team"]) == ("running", "namespaces", "a")
        assert info.created_at is not None
        assert info.expires_at == pytest.approx(info.created_at + 60, abs=0.01)  # pyright: ignore[reportUnknownMemberType] # pytest's own
        wanted = {"uid": "1000", "memory": "300 MiB", "cpu": "0.5", "pids": "4096", "tmp": "150m"}
        wanted |= {"cpu_weight": "100", "core": "none", "disk": "unlimited", "inodes": "unlimited"}
        assert wanted.items() <= info.resources.items()
        assert [found.name async for found in provider.list({"team": "a"})] == [box.name]
        assert [found.name async for found in provider.list({"team": "b"})] == []
    finally:
        await box.terminate()
    assert (await box.info()).state == "ended"


async def test_another_host_gets_it_by_its_id_with_the_directory_it_was_made_with(
    provider: DockerProvider, docker_engine: DockerEngine
) -> None:
    box = await provider.create(SandboxSpec(workdir="/project/sub"))
    try:
        await box.write_file("note", b"kept")
        async with DockerProvider(host=docker_engine.host) as other:
            again = await other.get(box.id)
            assert again.workdir == "/project/sub"
            assert await again.read_file("note") == b"kept"
            await again.terminate()
            await again.terminate()
            with pytest.raises(SandboxNotFoundError):
                await other.get(box.id)
    finally:
        await box.terminate()


@pytest.mark.parametrize("sandbox_id", ["no-such-thing", "", "a/../b", "ä"])
async def test_what_is_no_sandbox_is_not_found(provider: DockerProvider, sandbox_id: str) -> None:
    with pytest.raises(SandboxNotFoundError):
        await provider.get(sandbox_id)


async def test_somebody_elses_container_is_no_sandbox(
    provider: DockerProvider, engine: Engine, baked: str
) -> None:
    made = await engine.ask("POST", "/containers/create", body={"Image": baked, "Cmd": ["true"]})
    try:
        with pytest.raises(SandboxNotFoundError, match="no sandbox"):
            await provider.get(made["Id"])
        assert made["Id"] not in [info.id async for info in provider.list()]
    finally:
        await engine.ask("DELETE", f"/containers/{made['Id']}")


@pytest.mark.parametrize(
    ("spec", "error", "word"),
    [
        (SandboxSpec(network=NetworkPolicy.allow(["example.org"])), UnsupportedError, "network"),
        (SandboxSpec(region="moon"), UnsupportedError, "region"),
        (SandboxSpec(lease=5), UnsupportedError, "lease"),
        (
            SandboxSpec(inject=(HeaderInjection(host="h", header="x", secret="s"),)),
            UnsupportedError,
            "inject",
        ),
        (SandboxSpec(limits=ResourceLimits(disk_mib=1)), UnsupportedError, "disk"),
        (SandboxSpec(disk_mib=1), UnsupportedError, "disk"),
        (SandboxSpec(limits=ResourceLimits(memory_mib=1)), ConfigError, "memory_mib"),
        (SandboxSpec(limits=ResourceLimits(cpu=0.001)), ConfigError, "cpu"),
        (SandboxSpec(limits=ResourceLimits(cpu=1e6)), UnsupportedError, "cores"),
        (SandboxSpec(cpu=100_000), UnsupportedError, "cores"),
        (SandboxSpec(memory_mib=1 << 40), UnsupportedError, "memory_mib"),
        (SandboxSpec(provider_options={"tmp": 1}), ConfigError, "tmp_mib"),
        (SandboxSpec(provider_options={"tmp_mib": 0}), ConfigError, "tmp_mib"),
        (SandboxSpec(workdir="/etc/x"), ConfigError, "/etc"),
        (SandboxSpec(workdir="/"), ConfigError, "taken"),
        (SandboxSpec(workdir="/opt"), ConfigError, "agenthost"),
        (SandboxSpec(workdir="/a/../etc"), ConfigError, "plain"),
        (SandboxSpec(mounts=(Mount(source="/usr", target="/workspace"),)), ConfigError, "/workspace"),
        (SandboxSpec(mounts=(Mount(source="/no/such", target="/x"),)), ConfigError, "/no/such"),
        (SandboxSpec(mounts=(Mount(source="/usr", target="/proc/sys"),)), ConfigError, "/proc"),
        (SandboxSpec(image="no-such-image:1"), ConfigError, "agenthost bake docker --base no-such-image:1"),
    ],
)
async def test_what_it_cannot_do_is_refused_before_anything_is_made(
    provider: DockerProvider, spec: SandboxSpec, error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        await provider.create(spec)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a directory that everybody may write to, with a file."""
    tmp_path.chmod(0o777)
    (tmp_path / "note").write_text("of the host")
    (tmp_path / "note").chmod(0o666)
    return tmp_path


async def test_a_mount_is_read_only_and_hides_what_is_mounted_below_it(
    provider: DockerProvider, docker_engine: DockerEngine, folder: Path
) -> None:
    if not docker_engine.private:
        pytest.skip("not in CI: the engine may be on another machine")
    mounts = (Mount(source=str(folder), target="/data"), Mount(source="/proc", target="/host-proc"))
    box = await provider.create(SandboxSpec(mounts=mounts))
    try:
        assert await shell(box, "cat /data/note") == "of the host"
        assert "Read-only" in await shell(box, "touch /data/x 2>&1; true")
        assert "Read-only" in await shell(box, "(echo x > /data/note) 2>&1; true")
        # /proc/sys/fs/binfmt_misc and its like are mounts of their own below /proc.
        below = await shell(box, "cut -d' ' -f5 /proc/self/mountinfo | grep ^/host-proc/ || true")
        assert below == ""
    finally:
        await box.terminate()


async def test_an_open_network_is_the_engines_bridge(
    provider: DockerProvider, docker_engine: DockerEngine
) -> None:
    if not docker_engine.private:
        pytest.skip("not in CI: what the engine's bridge leads to is not known")
    box = await provider.create(SandboxSpec(network=NetworkPolicy.open()))
    try:
        assert "eth0" in await shell(box, "cut -d: -f1 /proc/net/dev")
        # Nothing listens at the gateway: that it says so shows that it is reached.
        program = "import socket; socket.create_connection(('172.17.0.1', 9), 5)"
        assert b"refused" in (await box.exec(["python3", "-c", program])).stderr
        assert (await box.info()).resources["network"] == "open"
    finally:
        await box.terminate()

"""``ps``, ``logs``, ``attach``, ``stop`` and ``reap`` look where a config says that a provider is."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cli.detached import PLAIN, detached
from support.command_line import run_agenthost
from support.hosting import KEY
from support.installed import environment_with, install, write_module
from support.preloaded import run_to_end
from support.written import write

from agenthost import AgentRef, SandboxSpec, open_provider
from agenthost.sandbox import SandboxProvider
from agenthost.testing import FakeCLI

VARIABLE = "AGENTHOST_PROVIDERS__LOCAL_UNISOLATED__STATE_DIR"
SECRET = "a secret of this deployment alone"
FLAGS = ("--allow", "provider-options")
FLAG = " ".join(FLAGS)
EVERY = (
    *(["ps"], ["logs", "agent-x"], ["attach", "agent-x"], ["stop", "--all"], ["reap"]),
    *(["providers"], ["doctor"], ["bake", PLAIN]),
)
NOT_ALLOWED = (
    f"agenthost.toml says [providers.{PLAIN}] state_dir, which tells a provider what to run or whom to ask, "
    f"and counts only when the command line says it, too: {FLAG}"
)
MODEL = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
USED = "agenthost: provider options from agenthost.toml"


def not_set_up(again: str = "") -> str:
    """Return the notice about the clouds, of which no test has a key."""
    clouds = "cloudflare, daytona, e2b, fly, modal, vercel"
    what = f"`agenthost providers{again}` says what is missing"
    return f"agenthost: not asked, because they are not set up: {clouds}; {what}\n"


MAKER = """
import sys, anyio, agenthost

async def main():
    async with agenthost.open_provider("local-unisolated", state_dir=sys.argv[1]) as provider:
        print((await provider.create(agenthost.SandboxSpec())).name)

anyio.run(main)
"""

pytestmark = pytest.mark.usefixtures("host_key")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a state directory that only a config names."""
    return tmp_path / "elsewhere"


@asynccontextmanager
async def agent_in(
    tmp_path: Path, state_dir: Path, *, secret: str | None = None
) -> AsyncGenerator[tuple[AgentRef, SandboxProvider]]:
    """Leave an agent in a sandbox of a provider that has options, in a directory for the config."""
    (tmp_path / "here").mkdir()
    async with open_provider(PLAIN, state_dir=str(state_dir), secret=secret) as provider:
        sandbox = await provider.create(SandboxSpec())
        try:
            async with detached(tmp_path, [FakeCLI.text("Hello.")], sandbox=sandbox) as ref:
                yield ref, provider
        finally:
            await sandbox.terminate()


async def names_at(provider: SandboxProvider) -> list[str]:
    return [info.name async for info in provider.list()]


def command_in(text: str, label: str) -> list[str]:
    """Return the command that a line names, as a shell would run it."""
    line = next(line for line in text.splitlines() if label in line)
    return shlex.split(line.partition(f"{label}agenthost ")[2])


def table(state_dir: Path, more: str = "") -> str:
    return f"[providers.{PLAIN}]\nstate_dir = {json.dumps(str(state_dir))}\n{more}\n"


@pytest.mark.full
async def test_an_agent_of_a_provider_that_variables_describe_is_found_read_and_ended(
    tmp_path: Path, elsewhere: Path
) -> None:
    variables = {VARIABLE: str(elsewhere), "AGENTHOST_PROVIDERS__LOCAL_UNISOLATED__SECRET": SECRET}
    async with agent_in(tmp_path, elsewhere, secret=SECRET) as (ref, provider):
        assert (await run_agenthost("ps", "--json")).stdout == ""
        seen = await run_agenthost("ps", "--json", env=variables)
        assert [json.loads(line)["agent"] for line in seen.stdout.splitlines()] == [ref.agent]
        sources, notice = seen.stderr.splitlines(keepends=True)
        assert (seen.exit_code, notice) == (0, not_set_up())
        names = sources.removeprefix("agenthost: provider options from ").rstrip().split(", ")
        assert sorted(names) == ["AGENTHOST_PROVIDERS__LOCAL_UNISOLATED__SECRET", VARIABLE]
        named = await run_agenthost("ps", "--provider", PLAIN, env=variables)
        assert ref.agent in named.stdout
        read = await run_agenthost("logs", "--json", ref.agent, env=variables)
        assert all(json.loads(line) for line in read.stdout.splitlines())
        assert (read.exit_code, "provider options from" in read.stderr) == (0, True)
        by_ref = await run_agenthost("stop", ref.to_json(), env=variables)
        assert (by_ref.exit_code, await names_at(provider)) == (0, [])
        assert SECRET not in seen.stderr + read.stderr + by_ref.stderr


async def test_the_file_that_lies_here_wants_an_option_and_without_it_the_provider_is_left_out(
    tmp_path: Path, elsewhere: Path
) -> None:
    async with agent_in(tmp_path, elsewhere) as (ref, provider):
        here = write(tmp_path / "here", table(elsewhere)).parent
        left_out = f"provider {PLAIN} cannot be asked: {NOT_ALLOWED}"
        for arguments in (["ps", "--json"], ["stop", "--all"], ["logs", ref.to_json()]):
            done = await run_agenthost(*arguments, cwd=here)
            assert (done.exit_code, done.stdout) == (1, ""), arguments
            assert left_out in done.stderr
            assert "any more" not in done.stderr
        reaped = await run_agenthost("reap", cwd=here)
        assert (reaped.exit_code, reaped.stdout) == (1, "")
        assert reaped.stderr == f"agenthost: {left_out}\n{not_set_up()}"
        for command in ("ps", "reap"):
            done = await run_agenthost(command, "--provider", PLAIN, cwd=here)
            assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"agenthost: {NOT_ALLOWED}\n")
        assert await names_at(provider) == [ref.sandbox_name]

        seen = await run_agenthost("ps", "--json", *FLAGS, cwd=here)
        assert [json.loads(line)["agent"] for line in seen.stdout.splitlines()] == [ref.agent]
        assert (seen.exit_code, seen.stderr) == (0, f"{USED}\n{not_set_up(f' {FLAG}')}")
        kept = await run_agenthost("reap", "--json", *FLAGS, cwd=here)
        assert (kept.exit_code, json.loads(kept.stdout)["reason"]) == (0, "its owner lives")
        assert (await run_agenthost("stop", "--all", *FLAGS, cwd=here)).exit_code == 0
        assert await names_at(provider) == []


async def test_what_a_variable_or_a_file_that_was_named_says_is_the_users_own(
    tmp_path: Path, elsewhere: Path
) -> None:
    async with agent_in(tmp_path, elsewhere) as (ref, _):
        path = str(write(tmp_path, table(elsewhere)))
        here = write(tmp_path / "here", table(tmp_path / "evil")).parent
        ways: list[tuple[list[str], dict[str, str], str]] = [
            ([], {VARIABLE: str(elsewhere)}, VARIABLE),  # in place of what the file says
            ([], {"AGENTHOST_CONFIG": path}, path),
            (["--config", path], {}, path),
        ]
        for arguments, env, source in ways:
            done = await run_agenthost("ps", *arguments, env=env, cwd=here)
            assert (done.exit_code, ref.agent in done.stdout) == (0, True)
            assert done.stderr.splitlines()[0] == f"agenthost: provider options from {source}"
        # Named or not: this one may be somebody else's.
        done = await run_agenthost("ps", "--config", "agenthost.toml", cwd=here)
        assert (done.exit_code, NOT_ALLOWED in done.stderr) == (1, True)


async def test_the_deployments_secret_of_a_table_opens_its_sandboxes(tmp_path: Path, elsewhere: Path) -> None:
    async with agent_in(tmp_path, elsewhere, secret=SECRET) as (ref, provider):
        here = write(tmp_path / "here", table(elsewhere, 'secret = { env = "MY_DEPLOYMENT" }')).parent
        done = await run_agenthost("ps", *FLAGS, env={"MY_DEPLOYMENT": SECRET}, cwd=here)
        assert (done.exit_code, ref.agent in done.stdout) == (0, True)
        assert "cannot be asked" not in done.stdout
        done = await run_agenthost("ps", *FLAGS, cwd=here)
        place = f"agenthost.toml: [providers.{PLAIN}] secret"
        why = f"{place}: the environment variable MY_DEPLOYMENT is not set: set it, or remove this key"
        assert (done.exit_code, ref.agent in done.stdout) == (0, False)
        assert f"provider {PLAIN} is not set up and was not asked: {why}" in done.stderr
        named = await run_agenthost("ps", "--provider", PLAIN, *FLAGS, cwd=here)
        assert (named.exit_code, why in named.stderr) == (2, True)
        for command in ("logs", "stop"):
            lost = await run_agenthost(command, ref.to_json(), *FLAGS, cwd=here)
            assert (lost.exit_code, why in lost.stderr, "any more" in lost.stderr) == (1, True, False)
        assert await names_at(provider) == [ref.sandbox_name]


async def test_an_agent_is_taken_over_with_the_options_that_it_was_found_with(
    tmp_path: Path, elsewhere: Path
) -> None:
    async with agent_in(tmp_path, elsewhere, secret=SECRET) as (ref, provider):
        here = write(tmp_path / "here", table(elsewhere, 'secret = { env = "MY_DEPLOYMENT" }')).parent
        env = {**MODEL, "MY_DEPLOYMENT": SECRET}
        done = await run_agenthost("attach", "--finish", ref.agent, *FLAGS, env=env, cwd=here)
        assert done.exit_code == 0, done.stderr
        assert await names_at(provider) == []


async def test_the_lines_that_commands_print_for_the_next_one_look_at_the_same_place(
    tmp_path: Path, elsewhere: Path
) -> None:
    cli = FakeCLI([FakeCLI.text("Hello.")]).write(tmp_path / "claude")
    path = write(tmp_path, table(elsewhere, f"[agent]\ncli_path = {json.dumps(str(cli))}"))
    path = path.rename(tmp_path / "with space.toml")
    options = ("--provider", PLAIN, "--config", str(path), *FLAGS)
    started = await run_agenthost("run", "go", "--detach", *options, env=MODEL)
    assert started.exit_code == 0, started.stderr
    ref = AgentRef.from_json(started.stdout)
    left = await run_agenthost(*command_in(started.stderr, "take it over: "), env=MODEL)
    assert left.exit_code == 0, left.stderr
    assert command_in(started.stderr, "watch it: ")[3:] == command_in(left.stdout, "come back: ")[4:]
    ended = await run_agenthost(*command_in(left.stdout, "end it: "))
    assert ended.stdout == f"ended {ref.agent} and sandbox {ref.sandbox_name} ({PLAIN})\n"


async def test_what_killed_hosts_have_left_where_a_config_says_is_ended(elsewhere: Path) -> None:
    made = await run_to_end(["python", "-c", MAKER, str(elsewhere)])
    orphan = made.stdout.strip()
    assert (await run_agenthost("reap")).stdout == "there is no sandbox\n"
    done = await run_agenthost("reap", "--json", env={VARIABLE: str(elsewhere)})
    assert done.exit_code == 0
    (one,) = map(json.loads, done.stdout.splitlines())
    assert (one["name"], one["outcome"]) == (orphan, "reaped")


async def test_a_mistake_ends_each_command_before_it_looks(tmp_path: Path) -> None:
    write(tmp_path, "[agent]\nmodle = 1\n")
    for arguments in EVERY:
        done = await run_agenthost(*arguments, cwd=tmp_path)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            "agenthost: agenthost.toml: [agent] modle: there is no such key. Did you mean 'model'?",
            "nothing was done: mend this, or name another config with --config",
        ]
    done = await run_agenthost("ps", "--config", "none.toml", cwd=tmp_path)
    assert done.exit_code == 2
    assert "the config none.toml cannot be read: No such file or directory" in done.stderr
    (tmp_path / "other.toml").touch()
    assert (await run_agenthost("ps", "--config", "other.toml", cwd=tmp_path)).exit_code == 0


async def test_a_mistake_in_a_providers_table_leaves_out_that_provider_alone(tmp_path: Path) -> None:
    write(tmp_path, "[providers.local]\nbwarp = 'bwrap'\n[providers.lcal]\nbwrap = 'bwrap'\n")
    wrong = "agenthost.toml: [providers.local] bwarp: there is no such key. Did you mean 'bwrap'?"
    unknown = "agenthost.toml: [providers] lcal: there is no provider 'lcal'. Did you mean 'local'?"
    async with detached(tmp_path) as ref:
        done = await run_agenthost("ps", "--json", *FLAGS, cwd=tmp_path)
        assert (done.exit_code, json.loads(done.stdout)["agent"]) == (1, ref.agent)
        first, second, _ = done.stderr.splitlines()
        assert first == f"agenthost: provider local cannot be asked: {wrong}"
        assert second.startswith(f"agenthost: provider lcal cannot be asked: {unknown}")
        done = await run_agenthost("ps", "--provider", "local", *FLAGS, cwd=tmp_path)
        assert (done.exit_code, done.stderr) == (2, f"agenthost: {wrong}\n")
        assert (await run_agenthost("ps", "--provider", PLAIN, cwd=tmp_path)).exit_code == 0
        assert (await run_agenthost("stop", ref.agent, cwd=tmp_path)).exit_code == 0


async def test_what_only_agents_need_is_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path, '[spec]\nnetwork = "open"\n[agent.env]\nNOTE = { env = "THIS_IS_NOT_SET" }\n')
    for command in ("ps", "reap"):
        done = await run_agenthost(command, cwd=tmp_path)
        assert (done.exit_code, done.stderr) == (0, not_set_up())


async def test_an_engine_that_a_config_names_is_missed_when_it_is_not_there(tmp_path: Path) -> None:
    env = {"AGENTHOST_PROVIDERS__DOCKER__HOST": f"unix://{tmp_path}/none.sock"}
    done = await run_agenthost("ps", env=env)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"provider docker cannot be asked: no container engine answers at unix://{tmp_path}" in done.stderr
    done = await run_agenthost("reap", env=env)
    assert done.exit_code == 1
    assert f"provider docker cannot be asked: no container engine answers at unix://{tmp_path}" in done.stderr


async def test_a_provider_of_others_that_cannot_do_without_options_gets_them(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        "acme",
        """
        from agenthost.sandbox import Capabilities, SandboxInfo

        class Provider:
            name = "acme"
            capabilities = Capabilities(isolation="microvm")

            def __init__(self, *, account: str):
                self.account = account

            async def __aenter__(self):
                return self

            async def __aexit__(self, *exc_info):
                pass

            async def list(self, labels=None):
                yield SandboxInfo(id="1", name=f"of-{self.account}", provider="acme", state="running")

            async def get(self, sandbox_id):
                return object()
        """,
    )
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider"})
    env = environment_with(tmp_path, {"AGENTHOST_PROVIDERS__ACME__ACCOUNT": "ours"})
    (row,) = map(json.loads, (await run_agenthost("ps", "--json", env=env)).stdout.splitlines())
    assert (row["sandbox"], row["state"]) == ("of-ours", "cannot be asked: its agents end with their host")
    unknown = {"AGENTHOST_PROVIDERS__ACEM__ACCOUNT": "ours"}
    done = await run_agenthost("ps", env=environment_with(tmp_path, unknown))
    variable = "environment variable AGENTHOST_PROVIDERS__ACEM__ACCOUNT"
    assert f"provider acem cannot be asked: {variable}: there is no provider 'acem'" in done.stderr

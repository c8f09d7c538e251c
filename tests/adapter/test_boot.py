"""What is put into a sandbox: two zipapps and a configuration, without secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from guest.model_agent import script_agent

from agenthost.adapter.boot import guest_zipapp, make_boot, runner_zipapp
from agenthost.adapter.stripping import strip_source
from agenthost.errors import AccessDeniedError
from agenthost.link.channel import agent_params
from agenthost.link.layout import GuestLayout
from agenthost.link.tokens import TokenMaker
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

SECONDS = 60.0  # until a test is taken to hang
SECRET = "a secret that must be seen nowhere"


def names_in(zipapp: bytes) -> list[str]:
    """Return the names of an archive's files."""
    return [name for name in zipfile.ZipFile(io.BytesIO(zipapp)).namelist() if not name.endswith("/")]


def test_the_guest_fits_one_buffered_exec() -> None:
    assert len(guest_zipapp()) <= 48 * 1024


def test_only_what_runs_inside_travels() -> None:
    for zipapp, own in ((guest_zipapp(), "guest"), (runner_zipapp(), "runner")):
        names = names_in(zipapp)
        assert "__main__.py" in names
        folders = {name.rpartition("/")[0] for name in names} - {""}
        assert folders == {"agenthost/wire", f"agenthost/{own}"}
        assert "agenthost/__init__.py" not in names


def test_what_a_port_needs_travels_to_guests_with_a_port_alone() -> None:
    layout = GuestLayout(
        workdir="/x", home="/x", spool_dir="/x", boot_dir="/x", python="/x", site_dirs=(),
        isolation="none", user_is_root=False,
    )  # fmt: skip
    rest: dict[str, Any] = {"control_verifier": "", "env": {}, "lifetime": None, "agent": None}
    assert "http.pyz" not in make_boot(layout, guest_key=b"k", compiled=False, **rest).files
    ported = replace(layout, port=80, address="::")
    boot = make_boot(ported, guest_key=b"k", compiled=False, **rest)
    assert json.loads(boot.files["boot.json"])["http"] == {"address": "::", "port": 80}
    assert {name.rpartition("/")[0] for name in names_in(boot.files["http.pyz"])} == {"agenthost/guest/http"}
    with pytest.raises(ValueError, match="private_socket"):
        make_boot(ported, guest_key=None, compiled=False, **rest)


def test_byte_code_goes_beside_the_source_of_every_module() -> None:
    for plain, compiled in (
        (guest_zipapp(), guest_zipapp(compiled=True)),
        (runner_zipapp(), runner_zipapp(compiled=True)),
    ):
        assert set(names_in(compiled)) == {name + end for name in names_in(plain) for end in ("", "c")}


def test_sources_that_are_sent_are_stripped_and_those_beside_byte_code_are_whole() -> None:
    for make in (guest_zipapp, runner_zipapp):
        plain, compiled = (zipfile.ZipFile(io.BytesIO(make(compiled=beside))) for beside in (False, True))
        for name in names_in(make()):
            if name != "__main__.py":
                source = Path(__file__).parents[2].joinpath("src", name).read_bytes()
                assert compiled.read(name) == source
                assert plain.read(name) == strip_source(source)


def test_a_traceback_from_inside_names_the_line_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "guest.pyz").write_bytes(guest_zipapp())
    argv = [sys.executable, "-I", "-S", str(tmp_path / "guest.pyz"), "serve"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "KeyError: '--boot'" in done.stderr
    source = Path(__file__).parents[2].joinpath("src/agenthost/guest/__main__.py").read_text()
    number = source.splitlines().index('            options["--boot"],') + 1
    assert f'guest.pyz/agenthost/guest/__main__.py", line {number}, in main' in done.stderr


PRINT_DIGESTS = """
import hashlib
from agenthost.adapter.boot import guest_zipapp, runner_zipapp
for make in (guest_zipapp, runner_zipapp):
    for compiled in (False, True):
        print(hashlib.sha256(make(compiled=compiled)).hexdigest())
"""


def test_archives_are_the_same_byte_for_byte_wherever_they_are_made(tmp_path: Path) -> None:
    """From compiled modules or from sources, from another place, on another day, by another user."""
    here = Path(__file__).parents[2] / "src"
    there = tmp_path / "elsewhere"
    shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", there], check=True, timeout=120)
    digests: set[str] = set()
    for source, changed in (
        (here, {"PYTHONPYCACHEPREFIX": str(tmp_path / "none"), "TZ": "Asia/Tokyo"}),
        (there, {"PYTHONHASHSEED": "7"}),
        (there, {"PYTHONPYCACHEPREFIX": str(tmp_path / "none"), "PYTHONHASHSEED": "8", "HOME": "/"}),
    ):
        env = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", **changed}
        argv = [sys.executable, "-c", PRINT_DIGESTS]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=120)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_the_configuration_holds_verifiers_and_no_token() -> None:
    tokens = TokenMaker(SECRET.encode(), sandbox="s", nonce="n")
    agent = agent_params("first", LAYOUT.runner_argv(), tokens, env={}, model=True)
    boot = make_boot(
        LAYOUT,
        control_verifier=tokens.verifier("", CONTROL),
        guest_key=tokens.guest_key(),
        env={"A": "b"},
        lifetime=5.0,
        agent=agent,
        compiled=False,
    )
    assert set(boot.files) == {"guest.pyz", "runner.pyz", "boot.json"}
    assert json.loads(boot.files["boot.json"]) == boot.config
    for data in (*boot.files.values(), repr(boot).encode()):
        for token in (tokens.control(), tokens.token("first", DRIVER), tokens.token("first", OBSERVER)):
            assert token.encode() not in data
        assert SECRET.encode() not in data
    assert tokens.control() not in repr(tokens)
    assert SECRET not in repr(tokens)


LAYOUT = GuestLayout(
    workdir="/workspace",
    home="/home/agent",
    spool_dir="/var/lib/agenthost",
    boot_dir="/opt/agenthost/boot",
    python="/usr/bin/python3",
    site_dirs=(),
    isolation="none",
    user_is_root=False,
)


async def test_secret_and_tokens_are_seen_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with anyio.fail_after(SECONDS):
        async with LocalProvider(secret=SECRET) as provider:
            sandbox = await provider.create(SandboxSpec())
            try:
                async with script_agent(sandbox, "tell(dict(os.environ))", name="seen") as agent:
                    shown.append(json.dumps(await agent.told()))
                    shown.append(repr(agent.channel))
                    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /opt/agenthost/boot/boot.json"
                    found = await sandbox.exec(["sh", "-c", look])
                    shown.append(found.stdout.decode(errors="replace"))
                    shown += [repr(sandbox), repr(provider), repr(sandbox.session), repr(sandbox.token)]
                    shown.append(repr(await sandbox.info()))
                shown += all_files(Path(os.environ["AGENTHOST_STATE_DIR"], "local", sandbox.name))
                async with LocalProvider(secret=SECRET + " not") as stranger:
                    try:
                        await stranger.get(sandbox.id)
                    except AccessDeniedError as exc:
                        shown.append(f"{exc} {exc!r}")
                tokens = [sandbox.token.control()]
                tokens += [sandbox.token.token("seen", role) for role in ("driver", "observer")]
            finally:
                await sandbox.terminate()
    shown.append(caplog.text)
    assert len(shown) >= 12
    for text in shown:
        for secret in (SECRET, *tokens):
            assert secret not in text


def all_files(root: Path) -> list[str]:
    """Return what is in the files below a directory."""
    return [path.read_bytes().decode(errors="replace") for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("compiled", [False, True])
def test_an_agenthost_beside_the_sdk_is_not_the_runners(tmp_path: Path, compiled: bool) -> None:
    (tmp_path / "runner.pyz").write_bytes(runner_zipapp(compiled=compiled))
    other = tmp_path / "site" / "agenthost"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise RuntimeError('another agenthost')\n")
    argv = [sys.executable, "-I", "-S", str(tmp_path / "runner.pyz"), "--site", str(other.parent)]
    done = subprocess.run(argv, input=b"", capture_output=True, timeout=60, check=True)
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["kind"] == "end"
    assert b"another agenthost" not in done.stdout + done.stderr

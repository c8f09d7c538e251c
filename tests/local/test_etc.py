"""A sandbox sees the files of /etc that tools need, and no file that only a group may read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from local.other_user import needs_root, run_as_other_user
from local.sandboxes import open_sandbox
from local.stand_in import StandIn, stand_in

from agenthost.providers.local.isolated import find_host
from agenthost.providers.local.provider import LocalProvider

_GROUP = 60322

# Path, content, mode. Of a directory the content is None, of a link it is what the link says.
_TREE: tuple[tuple[str, str | None, int], ...] = (
    ("etc/ssl/certs/public.pem", "certificate", 0o644),
    ("etc/ssl/certs/host.key", "secret", 0o640),
    ("etc/ssl/certs/below/deep.key", "secret", 0o640),
    ("etc/ssl/certs/below/deep.pem", "certificate", 0o644),
    ("etc/ssl/private/host.key", "secret", 0o640),
    ("etc/ssl/private/public.key", "secret", 0o644),
    ("etc/ssl/openssl.cnf", "settings", 0o644),
    ("etc/pki/tls/certs/public.pem", "certificate", 0o644),
    ("etc/pki/tls/private/host.key", "secret", 0o640),
    ("etc/ca-certificates/host.key", "secret", 0o640),
    ("etc/resolv.conf", "secret", 0o640),
    ("etc/tool/settings", "settings", 0o644),
    ("etc/tool/token", "secret", 0o640),
    ("etc/tool/private/public.key", "secret", 0o644),
    ("etc/tool/closed/token", "secret", 0o644),
    ("etc/tool/closed", None, 0o750),
    ("etc/other/private/public.key", "secret", 0o644),
    ("etc/other/settings", "settings", 0o644),
    ("etc/other/unlinked", "secret", 0o644),
    ("etc/environment", "secret", 0o644),
    ("etc/closed/settings", "secret", 0o644),
    ("etc/closed", None, 0o750),
)
_LINKS = (
    ("etc/ssl/certs/hash.0", "public.pem"),
    ("usr/lib/tool/conf", "/etc/tool"),
    ("usr/share/other/conf/deep/settings", "../../../../../etc/other/settings"),
    ("usr/lib/ssl/private", "/etc/ssl/private"),
    ("usr/lib/environment.d/99.conf", "../../../etc/environment"),
    ("usr/lib/closed/settings", "/etc/closed/settings"),
    ("usr/lib/other/key", "/etc/other/private/public.key"),
    ("usr/lib/gone", "/etc/gone"),
    ("usr/lib/all", "/etc"),
)
_SEEN = {
    "/etc/ssl/certs/public.pem",
    "/etc/ssl/certs/hash.0",
    "/etc/ssl/certs/below/deep.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs/public.pem",
    "/etc/tool/settings",
    "/etc/other/settings",
}

_LIST = """
import json, os
print(json.dumps([f"{folder}/{name}" for folder, _, names in os.walk("/etc") for name in names]))
"""


@pytest.fixture
def root() -> Iterator[str]:
    """A host's /etc and /usr, made up. Its secrets belong to a group."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        top.chmod(0o755)
        for name, content, mode in _TREE:
            path = top / name
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            if os.geteuid() == 0:
                os.chown(path, 0, _GROUP)
            path.chmod(mode)
        for name, target in _LINKS:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).symlink_to(target)
        yield directory


async def test_only_what_the_world_may_read_and_a_tool_needs_is_seen(root: str) -> None:
    async with stand_in(host=replace(find_host(), root=root)) as inside:
        seen = await _listed(inside)
        said = await inside.run(f"print([open(path).read() for path in {sorted(_SEEN)!r}])")
    assert seen == _SEEN | {"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf"}
    assert "secret" not in said
    assert said.count("certificate") + said.count("settings") == len(_SEEN)


async def test_a_mode_that_changes_counts_for_the_next_sandbox(root: str) -> None:
    host = replace(find_host(), root=root)
    async with stand_in(host=host) as inside:
        assert "/etc/ssl/certs/public.pem" in await _listed(inside)
    os.chmod(f"{root}/etc/ssl/certs/public.pem", 0o640)
    async with stand_in(host=host) as inside:
        assert "/etc/ssl/certs/public.pem" not in await _listed(inside)


@pytest.mark.skipif(not os.path.isdir("/usr/local/etc"), reason="not in CI: there is no /usr/local/etc")
async def test_configuration_within_usr_is_held_to_the_same(root: str) -> None:
    for name, mode in (("settings", 0o644), ("token", 0o640)):
        path = f"{root}/usr/local/etc/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.chmod(path, mode)
    async with stand_in(host=replace(find_host(), root=root)) as inside:
        said = await inside.run(
            "import os; print(os.listdir('/usr/local/etc'), os.access('/usr/local/etc', os.W_OK))"
        )
    assert said == "['settings'] False\n"


async def _listed(inside: StandIn) -> set[str]:
    found: list[str] = json.loads(await inside.run(_LIST))
    return set(found)


_PROGRAM = """
import json, os, sys
from dataclasses import replace
import anyio
from agenthost.providers.local.isolated import find_host
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec

class Provider(LocalProvider):
    def _host(self):
        return replace(find_host(), root=sys.argv[2])

async def main():
    with open(sys.argv[2] + "/etc/ssl/private/host.key") as key:
        assert key.read() == "secret"  # the host itself is in the group
    async with Provider() as provider:
        box = await provider.create(SandboxSpec())
        try:
            print((await box.exec(["python3", "-c", sys.argv[3]])).stdout.decode())
        finally:
            await box.terminate()

anyio.run(main, backend=sys.argv[1])
"""
_READ = """
import json, os
texts = []
for folder, _, names in os.walk("/etc"):
    for name in names:
        try:
            texts.append(open(f"{folder}/{name}").read())
        except (OSError, UnicodeDecodeError):
            pass
print(json.dumps(texts))
"""


@needs_root
def test_a_key_of_the_hosts_own_group_is_not_seen(root: str, anyio_backend: str) -> None:
    texts = json.loads(run_as_other_user(_PROGRAM, anyio_backend, root, _READ, groups=[_GROUP]))
    assert texts.count("certificate") > 0
    assert texts.count("settings") > 0
    assert texts.count("secret") == 0


@needs_root
async def test_a_root_hosts_sandbox_has_none_of_its_groups() -> None:
    before = os.getgroups()
    os.setgroups([*before, _GROUP])
    try:
        async with open_sandbox(LocalProvider) as (_, box):
            # Numbers of groups that the sandbox does not know are 65534 inside.
            assert (await box.exec(["id", "-G"])).stdout == b"1000\n"
    finally:
        os.setgroups(before)


async def test_no_link_of_the_system_dangles_inside_that_leads_to_public_configuration() -> None:
    program = """
import json, os
found = []
for folder, folders, names in os.walk("/usr"):
    for name in folders + names:
        path = f"{folder}/{name}"
        if os.path.islink(path) and not os.path.exists(path):
            found.append(path)
print(json.dumps(found))
"""
    async with open_sandbox(LocalProvider) as (_, box):
        dangling: list[str] = json.loads((await box.exec(["python3", "-c", program])).stdout)
    assert [path for path in dangling if _leads_to_public_configuration(path)] == []


def _leads_to_public_configuration(link: str) -> bool:
    path = os.path.realpath(link)
    kept_out = ("/etc/environment", "/etc/ssl/private", "/etc/pki")
    if not path.startswith("/etc/") or path.startswith(kept_out) or not os.path.exists(path):
        return False
    return os.stat(path).st_mode & 0o004 != 0

"""git means the same inside as at home, without the addresses and credentials of its configuration."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from files.boxes import sh

from agenthost.files import download_dir, git_config, upload_dir
from agenthost.sandbox import Sandbox

TOKEN = "ghp_of_the_host"
IDENTITY = '[user]\n\tname = Ada \\"L.\\" L\n\temail = ada@example.org\n[core]\n\tautocrlf = true\n'

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def git_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a user with a global configuration of his own, and git no other one."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "gitconfig").write_text(IDENTITY)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True)
async def clean(box: Sandbox) -> AsyncIterator[None]:
    """Have nothing in the sandbox's working directory after a test."""
    yield
    await sh(box, "find . -mindepth 1 -delete")


def git(directory: Path, *words: str) -> str:
    """Run git on the host."""
    argv = ["git", "-C", str(directory), "-c", "protocol.file.allow=always", *words]
    return str(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def repository(directory: Path) -> Path:
    """Make a repository with a commit, whose index knows its files."""
    directory.mkdir()
    git(directory, "init", "-q", "-b", "main")
    (directory / "crlf").write_bytes(b"a\r\nb\r\n")
    (directory / "run").write_text("run\n")
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "one")
    return directory


async def inside(box: Sandbox, script: str) -> str:
    """Run a script in the directory that was uploaded."""
    return (await sh(box, f"cd w; {script}")).decode()


STATUS = "git status --porcelain=v2 --branch"


async def test_files_are_as_modified_inside_as_at_home(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    git(home, "config", "core.fileMode", "false")
    git(home, "config", "status.showUntrackedFiles", "no")
    (home / "run").chmod(0o755)
    (home / "untracked").touch()
    git(home, "update-ref", "refs/remotes/origin/main", "HEAD")
    for key, value in (
        ("fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ("url", f"https://{TOKEN}@a.example"),
    ):
        git(home, "config", f"remote.origin.{key}", value)
    git(home, "branch", "-q", "--set-upstream-to", "origin/main")

    told = await upload_dir(box, home, "w")

    expected = git(home, *STATUS.split()[1:])
    assert "branch.ab +0 -0" in expected
    assert await inside(box, STATUS) == expected
    assert told.ignored == []


async def test_commits_inside_are_the_users_own(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    await upload_dir(box, home, "w")

    await inside(box, "git commit -q --allow-empty -m two")

    assert await inside(box, "git log -1 --format='%an <%ae>'") == 'Ada "L." L <ada@example.org>\n'


async def test_identities_of_an_included_file_of_the_user_travel(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    (tmp_path / "work").write_text("[user]\n\tname = Work\n")
    with (tmp_path / "gitconfig").open("a") as file:
        file.write(f'[includeIf "gitdir:{tmp_path}/"]\n\tpath = {tmp_path}/work\n')

    await upload_dir(box, home, "w")

    assert await inside(box, "git config user.name") == "Work\n"


async def test_no_address_no_credential_and_no_program_travels(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    address = f"https://{TOKEN}@a.example/x"
    (tmp_path / "included").write_text(f"[user]\n\tname = {TOKEN}\n")
    for key in (
        *("remote.origin.url", "remote.origin.pushurl", f"remote.{address}.fetch", "branch.main.remote"),
        *("branch.main.pushRemote", f"url.{address}.insteadOf", "http.extraHeader", "http.proxy"),
        *("credential.helper", "core.hooksPath", "core.fsmonitor", "core.sshCommand", "core.pager"),
        *("core.editor", "core.askPass", "core.gitProxy", "core.alternateRefsCommand", "core.excludesFile"),
        *("core.attributesFile", "filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.x.command"),
        *("diff.external", "diff.x.textconv", "merge.x.driver", "alias.status", "sequence.editor"),
        *("gpg.program", "user.signingKey", "submodule.a.update", "submodule.a.url", "pager.log"),
        *("sendemail.smtpPass", "github.token", "x.y", "core.unknownKey", "include.x"),
    ):
        git(home, "config", key, address)
    git(home, "config", "commit.gpgSign", "true")
    git(home, "config", "include.path", str(tmp_path / "included"))

    await upload_dir(box, home, "w")

    carried = await inside(box, "cat .git/config")
    assert TOKEN not in carried
    assert "a.example" not in carried
    sections = {line for line in carried.splitlines() if line.startswith("[")}
    assert sections <= {"[core]", "[user]", '[submodule "a"]'}
    assert (await inside(box, "git config submodule.a.active; git commit -qm x --allow-empty")) == "true\n"
    assert TOKEN not in await inside(box, "cat .git/config; grep -r a.example . || true")


async def test_commits_of_another_kind_are_read_inside(box: Sandbox, tmp_path: Path) -> None:
    home = tmp_path / "repository"
    git(tmp_path, "init", "-q", "--object-format=sha256", str(home))
    git(home, "commit", "-q", "--allow-empty", "-m", "one")

    await upload_dir(box, home, "w")

    assert (await inside(box, "git rev-parse HEAD")) == git(home, "rev-parse", "HEAD")


async def test_a_linked_worktree_is_a_repository_inside(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    git(home, "config", "core.fileMode", "false")
    git(home, "config", "remote.origin.url", f"https://{TOKEN}@a.example")
    git(home, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    linked = tmp_path / "linked"
    (linked / "run").chmod(0o755)
    (linked / "staged").touch()
    git(linked, "add", "staged")

    await upload_dir(box, linked, "w")

    assert await inside(box, STATUS) == git(linked, *STATUS.split()[1:])
    await inside(box, "git commit -qm two && git fsck --strict")
    assert (await inside(box, "git log --format=%s side main")) == "two\none\n"
    assert TOKEN not in await inside(box, f"cat .git/config; grep -r {TOKEN} . || true")


async def test_a_worktree_of_a_bare_repository_is_a_repository_inside(box: Sandbox, tmp_path: Path) -> None:
    home = repository(tmp_path / "repository")
    git(tmp_path, "clone", "-q", "--bare", str(home), str(tmp_path / "bare"))
    git(tmp_path / "bare", "worktree", "add", "-q", str(tmp_path / "linked"), "main")

    await upload_dir(box, tmp_path / "linked", "w")

    assert await inside(box, STATUS) == git(tmp_path / "linked", *STATUS.split()[1:])


@pytest.mark.parametrize("link", ["relative", "absolute"])
async def test_submodules_work_inside_with_their_repository_and_without(
    box: Sandbox, tmp_path: Path, link: str
) -> None:
    part = repository(tmp_path / "part")
    home = repository(tmp_path / "repository")
    git(home, "submodule", "--quiet", "add", str(part), "part")
    git(home, "commit", "-qm", "two")
    if link == "absolute":
        (home / "part" / ".git").write_text(f"gitdir: {home}/.git/modules/part\n")

    await upload_dir(box, home, "w")
    assert await inside(box, f"{STATUS}; cd part; {STATUS}") == (
        git(home, *STATUS.split()[1:]) + git(home / "part", *STATUS.split()[1:])
    )

    assert await inside(box, "git --git-dir=.git/modules/part status --porcelain") == ""

    await upload_dir(box, home / "part", "part")
    assert await inside(box, f"cd ../part; {STATUS}") == git(home / "part", *STATUS.split()[1:])
    assert str(tmp_path) not in await inside(
        box, "cat .git/modules/part/config ../part/.git/config part/.git"
    )


@pytest.mark.parametrize("how", ["plain", "forged"])
async def test_only_a_repository_that_names_the_directory_is_put_in_its_place(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    private = repository(tmp_path / "private")
    (tmp_path / "stranger").mkdir()
    target = f"{private}/.git"
    if how == "forged":  # a directory beside it that claims to be a worktree's
        target = str(tmp_path / "forged")
        (tmp_path / "forged").mkdir()
        for name, line in (("gitdir", f"{tmp_path}/stranger/.git"), ("commondir", f"{private}/.git")):
            (tmp_path / "forged" / name).write_text(line + "\n")
        (tmp_path / "forged" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "stranger" / ".git").write_text(f"gitdir: {target}\n")

    with caplog.at_level(logging.WARNING, "agenthost.files"):
        await upload_dir(box, tmp_path / "stranger", "w")

    assert await inside(box, "ls -A; cat .git") == f".git\ngitdir: {target}\n"
    (warning,) = caplog.messages
    assert warning.startswith("git does not work inside: .git leads to ")
    assert "upload a clone" in warning


async def test_a_repository_that_borrows_its_objects_is_told_of(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    git(tmp_path, "clone", "-q", "--shared", str(repository(tmp_path / "lender")), str(tmp_path / "borrower"))

    with caplog.at_level(logging.WARNING, "agenthost.files"):
        await upload_dir(box, tmp_path / "borrower", "w")

    (warning,) = caplog.messages
    assert "borrows objects" in warning


async def test_without_git_here_the_configuration_stays_and_that_is_said(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = repository(tmp_path / "repository")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    with caplog.at_level(logging.WARNING, "agenthost.files"):
        told = await upload_dir(box, home, "w")

    assert told.ignored == [".git/config"]
    (warning,) = caplog.messages
    assert "git is not installed on this machine" in warning


@pytest.mark.parametrize("include", ["a large file", "a pipe"])
async def test_a_repository_cannot_hold_its_uploader_up(
    box: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    include: str,
) -> None:
    home = repository(tmp_path / "home")
    included = tmp_path / "included"
    if include == "a pipe":
        os.mkfifo(included)
        monkeypatch.setattr(git_config, "_SECONDS", 0.3)
    else:
        included.write_text("[big]\n" + f"\tkey = {'x' * 1000}\n" * 5000)
    with (home / ".git" / "config").open("a") as config:
        config.write(f"[include]\n\tpath = {included}\n")

    told = await upload_dir(box, home, "w")

    assert told.ignored == [".git/config"]
    reason = "did not answer within 0.3 s" if include == "a pipe" else "more than 4 MiB"
    assert reason in caplog.text


async def test_the_caller_may_leave_the_configuration_out_or_have_all_of_it_travel(
    box: Sandbox, tmp_path: Path
) -> None:
    home = repository(tmp_path / "repository")
    (home / ".agenthostignore").write_text(".git/config\n")
    assert (await upload_dir(box, home, "w")).ignored == [".git/config"]
    (home / ".agenthostignore").unlink()
    assert (await upload_dir(box, home, "w", ignore=[".git/config"])).ignored == [".git/config"]

    await upload_dir(box, home, "w", ignore=["!.git/config"])

    assert await inside(box, "cat .git/config") == (home / ".git" / "config").read_text()


async def test_a_download_replaces_no_configuration_and_no_link_of_the_host(
    box: Sandbox, tmp_path: Path
) -> None:
    part, home = repository(tmp_path / "part"), repository(tmp_path / "repository")
    git(home, "submodule", "--quiet", "add", str(part), "part")
    git(home, "worktree", "add", "-q", str(tmp_path / "linked"))
    before = [(home / path).read_bytes() for path in (".git/config", "part/.git", ".git/modules/part/config")]
    await upload_dir(box, home, "w")
    await inside(box, "for f in .git/config part/.git .git/modules/part/config; do echo '# evil' >> $f; done")
    await inside(box, "git commit -qm two")

    told = await download_dir(box, "w", home)

    assert told.refused == [".git/config", ".git/modules/part/config", "part/.git"]
    assert before == [
        (home / path).read_bytes() for path in (".git/config", "part/.git", ".git/modules/part/config")
    ]
    assert git(home, "log", "-1", "--format=%s") == "two\n"
    # A directory of its own gets all of it, and is a repository.
    assert (await download_dir(box, "w", tmp_path / "new")).refused == []
    assert git(tmp_path / "new", "log", "-1", "--format=%s") == "two\n"
    # What became a directory inside is a file here.
    assert ".git" in (await download_dir(box, "w", tmp_path / "linked")).refused

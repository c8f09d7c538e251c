"""Directories travel without secrets, and without what patterns name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from files.archives import archive_of, member, names_of, packed, unpacked
from files.boxes import fill
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from agenthost.errors import ConfigError
from agenthost.files import Ignore
from agenthost.files.inside.rules import Rules


def split(directory: Path, ignore: Ignore | None = None) -> tuple[set[str], list[str]]:
    """Return what is in the archive of a directory, and what was left out."""
    data, told = packed(directory, ignore)
    return names_of(data), sorted(told.left_out)


def test_what_looks_like_a_secret_is_left_out_and_named(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a.py",
        ".env",
        ".env.local",
        ".env.example",
        "keys/server.pem",
        "sub/id_rsa",
        ".aws/credentials",
    )

    names, ignored = split(tmp_path)

    assert names == {"a.py", ".env.example", "keys", "sub"}
    assert ignored == [".aws", ".env", ".env.local", "keys/server.pem", "sub/id_rsa"]


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.production",
        ".envrc",
        ".git/config",
        ".git/config.worktree",
        ".git/modules/lib/config",
        ".git/modules/group/lib/config",
        ".git/worktrees/other/config.worktree",
        ".git-credentials",
        ".gitconfig",
        ".config/git/credentials",
        ".config/gh/hosts.yml",
        ".config/gcloud/access_tokens.db",
        "credentials.json",
        ".credentials.json",
        "terraform.tfstate",
        "terraform.tfstate.backup",
        "terraform.tfstate.d/production/terraform.tfstate",
        "production.tfstate",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".pgpass",
        ".cargo/credentials.toml",
        "server.pem",
        "server.key",
        "Server.PEM",
        "id_rsa",
        "id_ed25519_work",
        ".aws/credentials",
        ".ssh/config",
        ".docker/config.json",
        ".kube/config",
    ],
)
@pytest.mark.parametrize("where", ["", "deep/er/"], ids=["top", "deep"])
def test_credentials_are_left_out_wherever_they_lie(tmp_path: Path, where: str, name: str) -> None:
    fill(tmp_path, where + name, where + "a.py")

    names, ignored = split(tmp_path)

    assert where + name not in names
    assert where + "a.py" in names
    assert [path for path in ignored if (where + name).startswith(path)] == ignored != []


def test_what_only_resembles_a_credential_travels(tmp_path: Path) -> None:
    alike = {
        ".env.example",
        ".env.sample",
        ".env.template",
        ".env.dist",
        ".envrc.example",
        ".git/HEAD",
        ".git/index",
        ".git/objects/config",
        ".gitignore",
        "config",
        "credentials.json.example",
        "credentials.py",
        "id_map.py",
        "keys.py",
        "main.tf",
        "src/git/config",
    }
    fill(tmp_path, *alike)

    names, ignored = split(tmp_path)

    assert alike <= names
    assert ignored == []


def test_only_the_caller_lets_a_credential_travel(tmp_path: Path) -> None:
    fill(tmp_path, ".git/config", "sub/.git/config", ".npmrc", ".env")
    (tmp_path / ".agenthostignore").write_text("!.git/config\n!.npmrc\n!.env\n")

    assert split(tmp_path)[1] == [".env", ".git/config", ".npmrc", "sub/.git/config"]

    names, ignored = split(tmp_path, Ignore(("!/.git/config", "!.npmrc")))

    assert names >= {".git/config", ".npmrc"}
    assert ignored == [".env", "sub/.git/config"]


def test_a_pattern_with_two_stars_is_for_every_directory(tmp_path: Path) -> None:
    fill(tmp_path, "out/x", "a/b/out/x", "a/about/x", "a/out/y")
    (tmp_path / ".agenthostignore").write_text("**/out/x\n")

    names, ignored = split(tmp_path)

    assert ignored == ["a/b/out/x", "out/x"]
    assert {"a/about/x", "a/out/y"} <= names


def test_the_ignore_file_adds_patterns_and_takes_them_back(tmp_path: Path) -> None:
    fill(tmp_path, "a.log", "keep.log", "build/x", "docs/secret.txt", "other/secret.txt", ".env")
    (tmp_path / ".agenthostignore").write_text("# ours\n*.log\n!keep.log\nbuild/\n/docs/secret.txt\n")

    names, ignored = split(tmp_path)

    assert names == {"keep.log", "docs", "other", "other/secret.txt", ".agenthostignore"}
    assert ignored == [".env", "a.log", "build", "docs/secret.txt"]


def test_a_link_with_a_secrets_name_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.py")
    (tmp_path / ".env").symlink_to("a.py")

    assert split(tmp_path) == ({"a.py"}, [".env"])


def test_without_the_defaults_only_the_patterns_count(tmp_path: Path) -> None:
    fill(tmp_path, ".env", "a.log", "a.py")

    assert split(tmp_path, Ignore(("*.log",), defaults=False)) == ({".env", "a.py"}, ["a.log"])


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        (("*",), ["a", "d"]),
        (("d/*", "!d/x"), ["d/s"]),
        (("d/**", "!d/x"), ["d/s"]),
        (("d", "!d/x"), ["d"]),
        (("/x",), []),
        (("x",), ["d/s/x", "d/x"]),
        (("x", "!d/"), ["d/s/x", "d/x"]),
        (("d/s/",), ["d/s"]),
        (("a/",), []),
        (("[ab]",), ["a"]),
        (("\\!a", "#a", "", "  "), []),
        (("*", "!*/", "!**/x"), ["a"]),
    ],
)
def test_patterns_mean_what_they_mean_to_git(
    tmp_path: Path, patterns: tuple[str, ...], left_out: list[str]
) -> None:
    fill(tmp_path, "a", "d/x", "d/s/x")

    assert split(tmp_path, Ignore(patterns, defaults=False))[1] == left_out


NAMES = st.text(alphabet="ab.-[]", min_size=1, max_size=4).filter(lambda name: name.strip("."))
WORDS = st.text(alphabet="ab.-*?[]!^\\", min_size=1, max_size=6).filter(
    lambda word: not word.endswith("\\")
) | st.just("**")


def joined(bang: str, top: str, words: list[str], end: str) -> str:
    return bang + top + "/".join(words) + end


PATTERNS = st.builds(
    joined,
    st.sampled_from(["", "", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository in which nothing but the patterns of an example ever lies."""
    top = tmp_path_factory.mktemp("top")
    subprocess.run(["git", "init", "-q", top], check=True)
    return top


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@settings(settings.get_profile("patterns-of-git"))
@example(patterns=["[^/]"], paths=["a"])
@example(patterns=["[a"], paths=["[a"])
@given(
    patterns=st.lists(PATTERNS, min_size=1, max_size=4),
    paths=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12),
)
def test_any_patterns_mean_what_they_mean_to_git(
    repository: Path, patterns: list[str], paths: list[str]
) -> None:
    try:
        rules = Rules(given=patterns)
    except ValueError:
        reject()
    (repository / ".git" / "info" / "exclude").write_text("\n".join(patterns) + "\n")
    asked = [path for path in paths if ".git" not in path.split("/")]
    command = [
        "git",
        "-C",
        str(repository),
        "-c",
        "core.ignoreCase=false",
        "check-ignore",
        "--no-index",
        "--stdin",
    ]
    done = subprocess.run(
        [*command, "--stdin"], input="\n".join(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr

    left_out = [path for path in asked if rules.leave_out_below(path, is_directory=False)]

    assert sorted(left_out) == sorted(line.strip('"') for line in done.stdout.splitlines())


def test_a_pattern_that_is_hard_to_match_takes_no_time() -> None:
    """Backtracking would take longer than the universe has existed; a test that hangs is ended."""
    name = "a" * 250
    patterns = ["a*" * 120 + "b", "*a*b" * 60 + "c", "**/" * 50 + "x", "**/a/" * 40 + "b", "[a]*" * 60 + "z"]
    paths = [name, "/".join(["a"] * 500), "/".join([name] * 15)]
    for pattern in patterns:
        assert not any(Rules(given=[pattern]).leave_out(path, is_directory=False) for path in paths)


def test_an_ignore_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".agenthostignore").write_text("a\n" * 1001)
    with pytest.raises(ConfigError, match="1,000 lines"):
        split(tmp_path)
    (tmp_path / ".agenthostignore").write_text("a" * 1001)
    with pytest.raises(ConfigError, match="more than 1000 characters"):
        split(tmp_path)


def test_a_sandbox_that_sends_what_was_to_be_left_out_is_refused_it(tmp_path: Path) -> None:
    data = archive_of(member("node_modules/x/y"), member("a"), member("b.log"))

    told = unpacked(data, tmp_path, ignore=Ignore(("node_modules/", "*.log"), defaults=False))

    assert told.refused == ["node_modules/x/y", "b.log"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_pattern_that_is_none_is_a_mistake_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'!'"):
        split(tmp_path, Ignore(("!",)))

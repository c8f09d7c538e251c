"""What of a directory stays where it is: secrets by default, and what patterns like those of git say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agenthost.errors import ConfigError
from agenthost.files.inside.rules import parse

IGNORE_FILE = ".agenthostignore"
# Of an ignore file, which may be a stranger's: each line is tried on each path.
_MOST_LINES = 1000
_LARGEST = 64 * 1024

# git's own: a remote's address may hold a token. What the files mean travels all the same (git_config.py).
_GIT_CONFIGS = (
    "**/*.git/config",
    "**/.git/config.worktree",
    "**/.git/worktrees/*/config.worktree",
    "**/.git/modules/**/config",
    "**/.git/modules/**/config.worktree",
)
# Files of the host that a download does not replace. They hold a repository's place, addresses, credentials
# and the programs that git runs; the copies inside do not.
GIT_OF_THE_HOST = (".git", *_GIT_CONFIGS)

# What commonly holds a secret, in any directory and in any case of its letters, and what means nothing on
# another machine. docs/files.md tells it.
DEFAULT_IGNORE = (
    ".env",
    ".env.*",
    ".envrc",
    # Private keys and key stores.
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "id_xmss*",
    ".ssh/",
    ".gnupg/",
    *_GIT_CONFIGS,
    "**/.git/credentials",
    "**/.config/git/credentials",
    "**/.config/gh/",
    ".git-credentials",
    ".gitconfig",
    ".gitcookies",
    # Clouds and containers.
    ".aws/",
    ".azure/",
    ".gcloud/",
    "**/.config/gcloud/",
    ".kube/",
    ".docker/",
    ".dockercfg",
    ".vault-token",
    # Terraform's state has every secret that it has made, in clear.
    "terraform.tfstate*",
    "*.tfstate",
    "*.tfstate.backup",
    ".terraformrc",
    ".terraform.d/",
    # Registries, databases and whatever else logs in.
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    "**/.cargo/credentials*",
    "credentials.json",
    ".credentials.json",
    "__pycache__/",
    ".venv/",
    # Look like a secret and are meant to be shared.
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "!.env.dist",
)


@dataclass(frozen=True, slots=True)
class Ignore:
    """What is left out of a transfer.

    Attributes:
        patterns: Lines as in a .gitignore; the last one that fits a path decides. ``!name`` takes back.
        defaults: Whether ``DEFAULT_IGNORE`` comes before them.
    """

    patterns: tuple[str, ...] = ()
    defaults: bool = True


def ignore_of(ignore: Ignore | Sequence[str] | None, *, defaults: bool) -> Ignore:
    """Return what a caller gave as an Ignore."""
    if isinstance(ignore, Ignore):
        return ignore
    if isinstance(ignore, str):
        raise ConfigError(f"ignore={ignore!r}: a list of patterns is wanted, not one string")
    return Ignore(tuple(ignore or ()), defaults)


def rules_of(ignore: Ignore, found: Sequence[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """Return the patterns for ``Rules``: the defaults, those that were found in the directory, the caller's.

    Raises:
        ConfigError: One is not a valid pattern.
    """
    for pattern in (*found, *ignore.patterns):
        try:
            parse(pattern)
        except ValueError as error:
            raise ConfigError(f"{_shortened(pattern)} is not a valid pattern: {error}") from error
    return list(DEFAULT_IGNORE) if ignore.defaults else [], list(found), list(ignore.patterns)


def patterns_in(directory: Path) -> tuple[str, ...]:
    """Return the lines of the ignore file of a directory, if it has one.

    Raises:
        ConfigError: The file has more than 1,000 lines or 64 KiB.
    """
    path = directory / IGNORE_FILE
    if not path.is_file():
        return ()
    with open(path, "rb") as file:
        data = file.read(_LARGEST + 1)
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    if len(data) > _LARGEST or len(lines) > _MOST_LINES:
        raise ConfigError(f"{path} has more than {_MOST_LINES:,} lines or {_LARGEST // 1024} KiB")
    return tuple(lines)


def _shortened(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 80 else pattern[:77] + "...")

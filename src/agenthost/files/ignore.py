"""What of a directory stays where it is: secrets by default, and what patterns like those of git say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from agenthost.errors import ConfigError
from agenthost.files.inside.rules import Rule

IGNORE_FILE = ".agenthostignore"

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
    # git: a remote's address may hold a token.
    "**/.git/config",
    "**/.git/config.worktree",
    "**/.git/worktrees/*/config.worktree",
    "**/.git/modules/**/config",
    "**/.git/modules/**/config.worktree",
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


def rules_of(ignore: Ignore) -> tuple[list[Rule], list[Rule]]:
    """Return the expressions of patterns: those that see a path in small letters, and the others.

    Raises:
        ConfigError: A pattern is none.
    """
    return list(_defaults()) if ignore.defaults else [], _compile(ignore.patterns)


def patterns_in(directory: Path) -> tuple[str, ...]:
    """Return the lines of the ignore file of a directory, if it has one."""
    path = directory / IGNORE_FILE
    if not path.is_file():
        return ()
    return tuple(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())


@cache
def _defaults() -> tuple[Rule, ...]:
    return tuple(_compile(DEFAULT_IGNORE))


def _compile(patterns: Sequence[str]) -> list[Rule]:
    rules: list[Rule] = []
    for pattern in patterns:
        try:
            compiled = GitIgnoreSpec.from_lines([pattern]).patterns
        except ValueError as error:
            raise ConfigError(f"the pattern {pattern!r} of what is to be left out: {error}") from error
        for one in compiled:
            expression = getattr(one, "regex", None)
            if expression is not None and one.include is not None:
                rules.append((one.include, expression.pattern))
    return rules

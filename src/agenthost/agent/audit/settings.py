"""What is logged of an agent, and in which file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from agenthost.errors import ConfigError
from agenthost.statedir import state_directory

AuditLevel = Literal["off", "digest", "full"]
LEVELS = ("off", "digest", "full")

# A ref comes from outside: its agent's name must stay a name when it becomes a part of a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An agent's audit log.

    Attributes:
        level: ``off``; ``digest``: names, decisions and SHA-256 digests of what tools were given and
            returned; ``full``: also the texts themselves, with known secrets masked.
        directory: Where the file ``AGENT.jsonl`` is written. None is ``audit`` in the state directory.
    """

    level: AuditLevel = "digest"
    directory: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a level or not a path. ConfigError names the field."""
        if self.level not in LEVELS:
            raise ConfigError(f"audit level {self.level!r}: known are 'off', 'digest' and 'full'")
        if self.directory is not None and not isinstance(cast("object", self.directory), str | os.PathLike):
            raise ConfigError(
                f"audit directory is of type {type(self.directory).__name__}; it must be a path"
            )


def audit_settings(given: object) -> Audit | None:
    """Return the settings that an argument ``audit`` means; None where it was left out.

    Raises:
        ConfigError: It is neither a level nor an Audit.
    """
    if given is None or isinstance(given, Audit):
        return given
    if isinstance(given, str):
        return Audit(level=cast("AuditLevel", given))
    raise ConfigError(f"audit is of type {type(given).__name__}; it must be a level or an Audit")


def log_path(agent: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of an agent's log.

    Raises:
        ConfigError: The agent's name could lead elsewhere.
    """
    check_name(agent)
    return _directory(directory) / f"{agent}.jsonl"


def check_name(agent: str) -> None:
    """Refuse a name that is not one part of a path.

    Raises:
        ConfigError: It holds a separator, for instance.
    """
    if not _NAME.match(agent):
        raise ConfigError(f"{agent[:80]!r} is not a valid name of an agent")


def find_log(agent: str) -> Path | None:
    """Return where the log of an agent is, if this user's state directory knows of one."""
    path = log_path(agent)
    # A log that was written elsewhere has a link in the state directory, which is this user's alone.
    return Path(os.path.realpath(path)) if path.exists() else None


def all_logs() -> list[Path]:
    """Return the logs that this user's state directory knows of, the newest first."""
    found = [path for path in _directory(None).glob("*.jsonl") if path.exists()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _directory(named: str | os.PathLike[str] | None) -> Path:
    return state_directory() / "audit" if named is None else Path(named).absolute()

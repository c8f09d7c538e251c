"""Git repositories in an upload: a configuration without addresses, and a ``.git`` that leads elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace

from agenthost.errors import UnsupportedError
from agenthost.files.git_config import Setting, carried, read_settings, write_settings
from agenthost.files.inside.packing import Graft, Substitutes

_log = logging.getLogger("agenthost.files")

_LARGEST = 4096 + 16  # bytes of a file that holds one path
# What a linked worktree shares with the repository that it belongs to; the rest it has itself.
_SHARED = frozenset(
    ["branches", "hooks", "info", "lfs", "logs", "objects", "packed-refs", "refs", "remotes", "shallow"]
)
# What means nothing in a copy. A submodule's repository is found by its own ``.git``.
_AT_HOME = frozenset(["commondir", "config", "config.worktree", "gitdir", "locked", "modules", "worktrees"])


class GitRepositories(Substitutes):
    """Gives the packer what it sends in place of a path, for one upload.

    Attributes:
        root: The directory that is uploaded.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)

    def instead_of_config(self, path: str) -> bytes | None:
        """Return what is sent in place of a repository's configuration; None when it stays at home."""
        directory, name = os.path.split(path)
        git_dir = os.path.join(self.root, directory)
        if name != "config" or not os.path.isfile(os.path.join(git_dir, "HEAD")):
            return None  # another secret, or something else of that name
        try:
            settings = read_settings(git_dir, git_dir)
        except UnsupportedError as error:
            _log.warning("%s stays at home, and git means something else inside: %s", path, error)
            return None
        if _alternates(git_dir):
            _log.warning(
                "%s borrows objects from another repository, which does not travel: git inside lacks them. "
                "Run `git repack -a -d` and remove objects/info/alternates, or clone without --shared",
                directory,
            )
        return self._text(settings, git_dir)

    def instead_of_link(self, path: str) -> bytes | Graft | None:
        """Return what is sent in place of a ``.git`` that is a file; None for the file as it is."""
        link = os.path.join(self.root, path)
        target = _first_line(link).removeprefix("gitdir:").strip()
        if not target:
            return None
        git_dir = os.path.realpath(os.path.join(os.path.dirname(link), target))
        if self._holds(git_dir):
            home = os.path.realpath(os.path.dirname(link))
            return f"gitdir: {os.path.relpath(git_dir, home)}\n".encode(errors="surrogateescape")
        shared = _first_line(os.path.join(git_dir, "commondir"))
        common = os.path.realpath(os.path.join(git_dir, shared)) if shared else git_dir
        try:
            return self._graft(link, git_dir, common)
        except UnsupportedError as error:
            _log.warning("git does not work inside: %s leads to %s, and %s", path, git_dir, error)
            return None

    def _graft(self, link: str, git_dir: str, common: str) -> Graft:
        settings = read_settings(git_dir, common)
        # The repository must name this directory in turn: a stranger's .git file could name any repository.
        if common != git_dir:
            is_known = os.path.dirname(git_dir) == os.path.join(common, "worktrees")
            back = _first_line(os.path.join(git_dir, "gitdir")) if is_known else ""
        else:
            worktree = _last(settings, "worktree")
            back = "" if worktree is None else os.path.join(worktree, ".git")
        if not back or os.path.realpath(os.path.join(git_dir, back)) != os.path.realpath(link):
            raise UnsupportedError(
                "that repository does not name this directory: upload a clone, or run `git worktree repair`"
            )
        if common != git_dir and os.path.isdir(os.path.join(common, "reftable")):
            raise UnsupportedError("a worktree with reftables cannot be copied: upload a clone instead")
        if _alternates(common):
            raise UnsupportedError("it borrows objects from a third repository: upload a clone instead")
        text = write_settings(
            replace(one, value="false") if (one.section, one.key) == ("core", "bare") else one
            for one in carried(settings)
        )
        sources: list[tuple[str, Callable[[str], bool]]] = [(git_dir, _is_copied)]
        if common != git_dir:
            sources.insert(0, (common, _SHARED.__contains__))
        return Graft(sources=tuple(sources), config=text)

    def _text(self, settings: list[Setting], git_dir: str) -> bytes:
        kept = carried(settings)
        worktree = _last(settings, "worktree")
        if worktree is not None:
            place = os.path.realpath(os.path.join(git_dir, worktree))
            if self._holds(place):
                relative = os.path.relpath(place, os.path.realpath(git_dir))
                kept.append(Setting("core", None, "worktree", relative))
        return write_settings(kept)

    def _holds(self, place: str) -> bool:
        return os.path.commonpath([place, self.root]) == self.root


def _is_copied(name: str) -> bool:
    return name not in _AT_HOME


def _last(settings: list[Setting], key: str) -> str | None:
    return next((one.value for one in reversed(settings) if (one.section, one.key) == ("core", key)), None)


def _alternates(git_dir: str) -> bool:
    return bool(_first_line(os.path.join(git_dir, "objects", "info", "alternates")))


def _first_line(path: str) -> str:
    """Return the first line of a small file; nothing where there is no such file."""
    try:
        # O_NONBLOCK: it may be a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(fd, _LARGEST)).partition("\n")[0].rstrip("\r")
    except OSError:
        return ""
    finally:
        os.close(fd)

"""The part of a git repository's configuration that travels: what files and commits mean, no addresses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agenthost.errors import UnsupportedError

_SECONDS = 10.0  # that git may take to answer: an included file may be a pipe without a writer
# Bytes of the answer. A repository of others may include a file of any size, many times.
_LARGEST = 4 * 1024 * 1024
# These would have git read another repository, or another file, than the one that is named.
_REDIRECTING = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_CONFIG", "GIT_PREFIX"),
)

# What travels. Nothing here names an address, a path of this machine or a program. ``*`` is the name of a
# remote, a branch or a submodule.
_CARRIED = frozenset(
    [
        "core.abbrev",
        "core.autocrlf",
        "core.bare",
        "core.bigfilethreshold",
        "core.checkroundtripencoding",
        "core.checkstat",
        "core.commentchar",
        "core.commentstring",
        "core.eol",
        "core.filemode",
        "core.ignorecase",
        "core.logallrefupdates",
        "core.notesref",
        "core.precomposeunicode",
        "core.protecthfs",
        "core.protectntfs",
        "core.quotepath",
        "core.repositoryformatversion",
        "core.safecrlf",
        "core.sharedrepository",
        "core.sparsecheckout",
        "core.sparsecheckoutcone",
        "core.symlinks",
        "core.trustctime",
        "core.usereplacerefs",
        "core.whitespace",
        "extensions.compatobjectformat",
        "extensions.noop",
        "extensions.objectformat",
        "extensions.partialclone",
        "extensions.preciousobjects",
        "extensions.refstorage",
        "user.email",
        "user.name",
        "user.useconfigonly",
        "author.email",
        "author.name",
        "committer.email",
        "committer.name",
        "i18n.commitencoding",
        "i18n.logoutputencoding",
        "index.sparse",
        "index.version",
        "diff.ignoresubmodules",
        "diff.renamelimit",
        "diff.renames",
        "status.aheadbehind",
        "status.branch",
        "status.displaycommentprefix",
        "status.relativepaths",
        "status.renamelimit",
        "status.renames",
        "status.short",
        "status.showstash",
        "status.showuntrackedfiles",
        "status.submodulesummary",
        "submodule.active",
        "submodule.recurse",
        "remote.*.fetch",
        "remote.*.partialclonefilter",
        "remote.*.promisor",
        "branch.*.merge",
        "branch.*.remote",
        "submodule.*.active",
        "submodule.*.ignore",
    ]
)
_SEVERAL = ("remote.*.fetch", "submodule.active", "branch.*.merge")
_FILES = ("config", "config.worktree")
_ADDRESS = re.compile(r"[:@\\]|^[./~]")


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of a configuration. ``value`` is None for a key without ``=``, which means true."""

    section: str
    subsection: str | None
    key: str
    value: str | None

    @property
    def kind(self) -> str:
        """The whole key, with ``*`` for a name."""
        return f"{self.section}.{'' if self.subsection is None else '*.'}{self.key}"


def read_settings(git_dir: str, common: str) -> list[Setting]:
    """Return the settings that git uses for a repository, those of the system and the user first.

    What the repository's own configuration includes from other files is left out.

    Args:
        git_dir: The repository's directory.
        common: The directory that a linked worktree shares with others; else ``git_dir``.

    Raises:
        UnsupportedError: git is missing here, too old, or does not understand the directory.
    """
    git = shutil.which("git")
    if git is None:
        raise UnsupportedError("git is not installed on this machine: install it")
    # Another work tree than the repository's own, which may have been removed.
    argv = [git, f"--git-dir={git_dir}", "--work-tree=.", "config"]
    argv += ["--includes", "--list", "--null", "--show-scope", "--show-origin"]
    env = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
    text = _answer(argv, env)
    own = frozenset(os.path.realpath(os.path.join(one, name)) for one in (git_dir, common) for name in _FILES)
    return list(_parse(os.fsdecode(text), own))


def carried(settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings that travel, each once; of a key that has one value, the last."""
    kept: dict[object, Setting] = {}
    for number, one in enumerate(settings):
        if _travels(one):
            name = (one.section, one.subsection, one.key)
            kept.pop(name, None)
            kept[(name, number) if one.kind in _SEVERAL else name] = one
        elif one.kind == "submodule.*.url":
            # A submodule is active when it has an address; the address stays.
            kept.setdefault(
                (one.section, one.subsection, "active"),
                Setting(one.section, one.subsection, "active", "true"),
            )
    return list(kept.values())


def write_settings(settings: Iterable[Setting]) -> bytes:
    """Return the text of a configuration file."""
    sections: dict[str, list[str]] = {}
    for one in settings:
        head = one.section if one.subsection is None else f'{one.section} "{_escaped(one.subsection)}"'
        line = one.key if one.value is None else f'{one.key} = "{_escaped(one.value)}"'
        sections.setdefault(head, []).append(line)
    text = "".join(f"[{head}]\n\t" + "\n\t".join(lines) + "\n" for head, lines in sections.items())
    return os.fsencode(text)


def _answer(argv: list[str], env: dict[str, str]) -> bytes:
    """Return what git prints, within its bounds of time and size."""
    with tempfile.TemporaryFile() as errors:
        try:
            git = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd="/", env=env
            )
        except OSError as error:
            raise UnsupportedError(f"git cannot be started: {error}") from error
        overdue = threading.Timer(_SECONDS, git.kill)
        overdue.start()
        try:
            assert git.stdout is not None
            text = git.stdout.read(_LARGEST + 1)
            git.stdout.close()
            if len(text) > _LARGEST:
                raise UnsupportedError(f"its configuration has more than {_LARGEST // 1024**2} MiB")
            code = git.wait()
        finally:
            overdue.cancel()
            if git.poll() is None:
                git.kill()
                git.wait()
        if code < 0:
            raise UnsupportedError(f"git did not answer within {_SECONDS:g} s")
        if code != 0:
            errors.seek(0)
            last = os.fsdecode(errors.read(64 * 1024)).strip().rpartition("\n")[2][:300]
            raise UnsupportedError(f"git cannot read it: {last}")
    return text


def _parse(text: str, own: frozenset[str]) -> Iterator[Setting]:
    parts = text.split("\0")
    for scope, origin, entry in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
        if scope in ("local", "worktree") and os.path.realpath(origin.removeprefix("file:")) not in own:
            continue  # another file, included by the repository's own
        name, is_set, value = entry.partition("\n")
        section, _, rest = name.partition(".")
        subsection, dot, key = rest.rpartition(".")
        yield Setting(section, subsection if dot else None, key, value if is_set else None)


def _travels(one: Setting) -> bool:
    if one.kind not in _CARRIED:
        return False
    if one.section == "remote":
        return _is_name(one.subsection or "")
    return one.kind != "branch.*.remote" or one.value == "." or _is_name(one.value or "")


def _is_name(remote: str) -> bool:
    """Return whether a remote is given by its name: an address may stand in the same place."""
    return _ADDRESS.search(remote) is None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")

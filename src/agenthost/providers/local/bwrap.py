"""The profile of an isolated sandbox: bubblewrap's options.

They travel by ``--args FD``, never on the command line, which every user of the host can read.

The guest, not bubblewrap, is process 1 inside (``--as-pid-1``). bubblewrap is dumpable: a program of the same
user could write into its memory, and then the end of the guest would no longer be the end of the sandbox. The
guest makes itself undumpable before it starts anything, and the kernel keeps from process 1 every signal of
its own namespace that it has no handler for, SIGKILL and SIGSTOP included.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from agenthost.providers.local.etc import EtcView, Part
from agenthost.providers.local.interpreter import PYTHON_INSIDE, Interpreter, sites_inside
from agenthost.providers.local.keeper.numbers import ARGS_FD, FIRST_DATA_FD, SECCOMP_FD, STATUS_FD
from agenthost.spec import Mount

WORKDIR_INSIDE = "/workspace"
SPOOL_INSIDE = "/var/lib/agenthost"
BOOT_INSIDE = "/opt/agenthost/boot"
_NAMES_INSIDE = "/opt/agenthost/bin"

_HOSTS = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 sandbox\n"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
# LeakSanitizer attaches to its own process, which the system call filter refuses, and fails a program that
# did nothing wrong. Both variables, so that a project that sets one of them keeps the other.
_SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0", "LSAN_OPTIONS": "detect_leaks=0"}
# Where sources are bound for a program that could not reach them: some directory that every machine has.
_STAGES = ("/tmp", "/mnt", "/media", "/srv", "/opt", "/home")


@dataclass(frozen=True, slots=True)
class Account:
    """Who programs are inside; outside it is another user, whatever this one is called."""

    name: str
    uid: int
    home: str

    def passwd(self) -> str:
        """Return /etc/passwd."""
        lines = [f"{self.name}:x:{self.uid}:{self.uid}:{self.name}:{self.home}:/bin/bash"]
        if self.uid != 0:
            lines.insert(0, "root:x:0:0:root:/root:/usr/sbin/nologin")
        return "\n".join([*lines, "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin", ""])

    def group(self) -> str:
        """Return /etc/group."""
        lines = [f"{self.name}:x:{self.uid}:"]
        if self.uid != 0:
            lines.insert(0, "root:x:0:")
        return "\n".join([*lines, "nogroup:x:65534:", ""])


AGENT = Account("agent", 1000, "/home/agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What differs from sandbox to sandbox.

    Attributes:
        directory: The sandbox's own directory on the host; holds ``work``, ``home``, ``spool``, ``boot``.
        staged: Bind the sources at a stage first, because bubblewrap runs as another user.
        network: Share the host's network.
        workdir: Absolute path inside.
        stores: Directories that links in the sites lead to, seen under their own paths.
        tmp_bytes: Size of /tmp.
        shm_bytes: Size of /dev/shm.
    """

    bwrap: str
    directory: str
    staged: bool
    network: bool
    workdir: str
    interpreter: Interpreter
    sites: tuple[str, ...]
    stores: tuple[str, ...]
    mounts: tuple[Mount, ...]
    tmp_bytes: int
    shm_bytes: int
    etc: EtcView
    seccomp: bytes
    account: Account = AGENT


@dataclass(slots=True)
class Launch:
    """A command, and what must be there when it starts.

    Attributes:
        argv: The command up to where the program's own arguments follow.
        data: Contents by file number.
        stage: Sources to bind at NUMBER below ``stage_at``.
    """

    argv: list[str]
    data: dict[int, bytes]
    stage: list[str] = field(default_factory=list[str])
    stage_at: str = ""


def _put_interpreter_in_reach(profile: Profile) -> tuple[list[str], str]:
    """Return the options that let the interpreter be found by its names, and PATH.

    The host's own interpreter comes first, as it does on the host. Its scripts begin with its names there, so
    these are links inside. Where such a link cannot be, only the interpreter is in reach: a script that
    cannot be run must not hide another of the same name.
    """
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    interpreter = profile.interpreter
    if interpreter.source is None:
        return [], usual
    # What is in a home or a workdir would be found there later, and may be there already.
    taken = ["/usr", "/etc", "/proc", "/dev", profile.account.home, profile.workdir]
    taken += [BOOT_INSIDE, SPOOL_INSIDE, PYTHON_INSIDE, _NAMES_INSIDE, *sites_inside(len(profile.sites))]
    taken += [*profile.stores, *(mount.target for mount in profile.mounts)]
    names = [name for name in interpreter.known_as if name != PYTHON_INSIDE]
    if not any(_overlap(name, path) for name in names for path in taken):
        links = [option for name in names for option in ("--symlink", PYTHON_INSIDE, name)]
        return links, f"{PYTHON_INSIDE}/bin:{usual}"
    base = os.path.basename(interpreter.path)
    links = list[str]()
    for name in dict.fromkeys((base, "python3", "python")):
        links += ["--symlink", interpreter.path, f"{_NAMES_INSIDE}/{name}"]
    return links, f"{_NAMES_INSIDE}:{usual}"


def build(profile: Profile) -> Launch:
    """Return how to start a program in this profile."""
    launch = Launch([], {SECCOMP_FD: profile.seccomp})
    if profile.staged:
        launch.stage_at = next(
            stage for stage in _STAGES if os.path.isdir(stage) and not profile.bwrap.startswith(stage + "/")
        )

    def source(path: str) -> str:
        if not profile.staged:
            return path
        launch.stage.append(path)
        return f"{launch.stage_at}/{len(launch.stage) - 1}"

    def data(content: str) -> str:
        number = FIRST_DATA_FD + len(launch.data) - 1
        launch.data[number] = content.encode()
        return str(number)

    def parts(seen: tuple[Part, ...]) -> list[str]:
        bound: list[str] = []
        for part in seen:
            if part.link is not None:
                bound += ["--symlink", part.link, part.target]
            elif part.source is not None:
                # No stage hides these two; what links in /etc lead to may be anywhere.
                direct = part.source.startswith(("/etc/", "/usr/"))
                bound += ["--ro-bind-try", part.source if direct else source(part.source), part.target]
        return bound

    own, account = profile.directory, profile.account
    options = [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"),
        *(() if profile.network else ("--unshare-net",)),
        *("--disable-userns", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
        *("--uid", str(account.uid), "--gid", str(account.uid), "--hostname", "sandbox"),
        *("--seccomp", str(SECCOMP_FD), "--json-status-fd", str(STATUS_FD)),
        *_system(),
        *("--perms", "0644", "--file", data(account.passwd()), "/etc/passwd"),
        *("--perms", "0644", "--file", data(account.group()), "/etc/group"),
    ]
    for directory in profile.etc.replaced:
        options += ["--perms", "0755", "--tmpfs", directory]
    options += parts(profile.etc.always)
    for directory in profile.etc.replaced:
        options += ["--remount-ro", directory]
    if profile.network:
        options += parts(profile.etc.network)
    else:
        options += ["--perms", "0644", "--file", data(_HOSTS), "/etc/hosts"]
        options += ["--perms", "0644", "--file", data(_NSSWITCH), "/etc/nsswitch.conf"]
    options += [
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", "--perms", "1777", "--size", str(profile.shm_bytes), "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(profile.tmp_bytes), "--tmpfs", "/tmp"),
        *("--dir", "/run", "--dir", "/var", "--symlink", "../tmp", "/var/tmp"),
        *("--bind", source(f"{own}/home"), account.home),
        *("--bind", source(f"{own}/work"), profile.workdir),
        *("--bind", source(f"{own}/spool"), SPOOL_INSIDE),
        *("--ro-bind", source(f"{own}/boot"), BOOT_INSIDE),
    ]
    if profile.interpreter.source is not None:
        options += ["--ro-bind", source(profile.interpreter.source), PYTHON_INSIDE]
    for site, inside in zip(profile.sites, sites_inside(len(profile.sites)), strict=True):
        options += ["--ro-bind", source(site), inside]
    for store in profile.stores:
        options += ["--ro-bind", source(store), store]
    for mount in profile.mounts:
        options += ["--ro-bind", source(mount.source), mount.target]
    links, path = _put_interpreter_in_reach(profile)
    options += links
    # No mount point can be made after the root is read-only.
    options += ["--remount-ro", "/", "--chdir", profile.workdir]
    environment = {
        "PATH": path,
        "HOME": account.home,
        "LANG": "C.UTF-8",
        "USER": account.name,
        **_SANITIZERS,
    }
    if profile.interpreter.library_path is not None:
        environment["LD_LIBRARY_PATH"] = profile.interpreter.library_path
    for key, value in environment.items():
        options += ["--setenv", key, value]
    launch.data[ARGS_FD] = b"".join(os.fsencode(option) + b"\0" for option in options)
    launch.argv = [profile.bwrap, "--args", str(ARGS_FD), "--"]
    return launch


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _system() -> list[str]:
    """Bind /usr, and its top-level companions as this machine has them."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    return options

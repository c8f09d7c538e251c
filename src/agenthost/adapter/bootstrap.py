"""The host's side of a bootstrap: what is put onto a machine, what is run there, what comes back.

For adapters whose provider only runs programs: put ``bootstrap_files`` into one directory, run
``bootstrap_command``, feed what it prints to a Bootstrap and ask its ``finish`` when it has ended.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files as resources
from typing import Any, cast

from agenthost.errors import BootstrapError
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot, Isolation

# Where ``agenthost bake`` puts the SDK into an image, beside whatever the image has.
BAKED_SITE = "/opt/agenthost/site"
SECONDS = 900.0  # that a bootstrap may take with an installation in it: 170 MB over a slow line
_TIME = 315532800  # 1980: neither too old nor in the future for any program that unpacks
_LINE = 64 * 1024  # bytes of a line that has not ended
_KEPT = 4000  # characters of what is not ours, for an error
# $1 the working directory, $2 the boot directory, then the program. A boot directory that comes from an image
# of another sandbox holds the spool and the socket of that sandbox's guest.
_PREPARE = """
if ! [ -w "$1" ] && ! mkdir -p "$1" 2>/dev/null && ! sudo -n install -d -o "$(id -u)" -g "$(id -g)" "$1"; then
    echo "User $(id -u) cannot make the working directory $1, not even by sudo without a password." \
        "Choose another one: SandboxSpec(workdir=...). Or use an image in which $1 belongs to this user." >&2
    exit 1
fi
chmod 700 "$2" && chmod 600 "$2"/*.* && rm -rf "$2"/spool "$2"/guest.sock* || exit 1
shift 2; cd / && exec "$@"
"""


def host_sdk_version() -> str:
    """Return the version of claude-agent-sdk that this host has.

    Raises:
        BootstrapError: It has none, so that nobody knows which one an agent is to have.
    """
    try:
        return version("claude-agent-sdk")
    except PackageNotFoundError:
        raise BootstrapError("claude-agent-sdk is not installed on this host") from None


def bootstrap_files(boot: Boot) -> dict[str, bytes]:
    """Return what is put into the boot directory, by name; each of mode 0600, the directory 0700."""
    return {**boot.files, **bootstrap_scripts()}


def bootstrap_command(boot: Boot, directory: str) -> list[str]:
    """Return what is run then, with the files in ``directory``. It takes no input and ends by itself."""
    sdk = host_sdk_version() if boot.needs_sdk else ""
    return ["/bin/sh", f"{directory}/start.sh", directory, sdk, BAKED_SITE]


def prepare_command(workdir: str, directory: str, command: Sequence[str]) -> list[str]:
    """Return what runs ``command`` once both directories are ready for it.

    Args:
        workdir: Made where it is missing: by the user that programs run as, else by ``sudo``, which must not
            ask for a password. Then it belongs to that user.
        directory: The boot directory with its files, which are made private.
        command: See ``bootstrap_command``.
    """
    return ["sh", "-c", _PREPARE, "sh", workdir, directory, *command]


def bootstrap_layout(
    directory: str, *, home: str, workdir: str, isolation: Isolation, user_is_root: bool = False
) -> GuestLayout:
    """Return where things are after a bootstrap in ``directory``. All paths are absolute."""
    return GuestLayout(
        workdir=workdir,
        home=home,
        spool_dir=f"{directory}/spool",
        boot_dir=directory,
        python=f"{directory}/python",
        site_dirs=(f"{directory}/site",),
        isolation=isolation,
        user_is_root=user_is_root,
    )


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files by name, each of mode 0600, for a vendor to whom one stream is easier."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, _TIME
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def dial_command(directory: str) -> list[str]:
    """Return the program whose stdin and stdout are a carrier to the guest of a bootstrap."""
    return [
        f"{directory}/python",
        "-I",
        f"{directory}/guest.pyz",
        "dial",
        "--socket",
        f"{directory}/guest.sock",
    ]


class Bootstrap:
    """Understands what a bootstrap prints, in whatever pieces it comes.

    Args:
        sandbox: The sandbox's name, for errors.
        bake: What makes an image that needs no installation; None where the provider makes no images.
        on_progress: Called with a line of text for each step.
    """

    def __init__(
        self, sandbox: str, *, bake: str | None, on_progress: Callable[[str], object] | None = None
    ) -> None:
        self._sandbox = sandbox
        self._bake = bake
        self._report = on_progress
        self._rest = b""
        self._told: Mapping[str, Any] = {}
        self._noise = ""

    def feed(self, data: bytes) -> None:
        """Take what was printed."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE:]
        for line in lines:
            self._take(line)

    def finish(self, exit_code: int, stderr: bytes = b"") -> None:
        """Return when the guest listens.

        Raises:
            BootstrapError: It does not; the message says what is missing and what helps.
        """
        self._take(self._rest)
        self._rest = b""
        told = self._told
        if exit_code == 0 and told.get("ready"):
            return
        if isinstance(told.get("missing"), list):
            said = f" The installer said:\n{told['said']}" if told.get("said") else ""
            raise BootstrapError(
                f"sandbox {self._sandbox} lacks what an agent needs: {', '.join(map(str, told['missing']))}. "
                + (f"Make an image that has all of it: {self._bake}." if self._bake else "Use another image.")
                + said
            )
        tail = str(told.get("failed") or stderr[-_KEPT:].decode(errors="replace") or self._noise).strip()
        raise BootstrapError(
            f"the guest did not start in sandbox {self._sandbox} (exit code {exit_code}): {tail or 'no word'}"
        )

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        try:
            told: object = json.loads(text) if text.startswith("{") else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            self._noise = (self._noise + text + "\n")[-_KEPT:]  # a shell's own words, for instance
        elif "say" in told:
            if self._report is not None:
                self._report(str(cast("dict[str, object]", told)["say"]))
        else:
            self._told = cast("dict[str, Any]", told)


@cache
def bootstrap_scripts() -> dict[str, bytes]:
    folder = resources("agenthost.guest.bootstrap")
    return {name: folder.joinpath(name).read_bytes() for name in ("start.sh", "prepare.py")}

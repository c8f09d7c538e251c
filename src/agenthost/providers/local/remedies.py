"""From what went wrong to what to do about it."""

from __future__ import annotations

import os

_PACKAGE_MANAGERS = (
    (("debian", "ubuntu"), "apt-get install -y bubblewrap"),
    (("fedora", "rhel", "centos"), "dnf install -y bubblewrap"),
    (("alpine",), "apk add bubblewrap"),
    (("arch",), "pacman -S --noconfirm bubblewrap"),
    (("suse", "opensuse"), "zypper install -y bubblewrap"),
)
_CONTAINER = (
    "this looks like a container: start it with --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined, or run this outside of it"
)


def install_hint(os_release: str = "/etc/os-release") -> str:
    """Return the command that installs bubblewrap here."""
    fields: dict[str, str] = {}
    try:
        with open(os_release, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                fields[key] = value.strip("\"'")
    except FileNotFoundError:
        pass  # not every machine has one; the general words below are for it
    kin = {fields.get("ID", ""), *fields.get("ID_LIKE", "").split()}
    for names, command in _PACKAGE_MANAGERS:
        if kin.intersection(names):
            return command if os.geteuid() == 0 else f"sudo {command}"
    return "with this system's package manager; the package is called bubblewrap"


def remedy(said: str) -> str:
    """Return what to do, from what bubblewrap printed and how the kernel is set.

    Several causes look the same from inside, so the kernel's own switches are asked first.
    """
    if "unshare the mount namespace" in said:
        return "root without CAP_SYS_ADMIN cannot isolate: run as an ordinary user, or with that capability"
    if "Unknown option" in said:
        return f"this bubblewrap is too old, 0.8.0 or newer is needed: {install_hint()}"
    if _switch("kernel/unprivileged_userns_clone") == "0":
        return "the kernel refuses user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
    if _switch("user/max_user_namespaces") == "0":
        return "the kernel's limit of user namespaces is 0: sysctl -w user.max_user_namespaces=10000"
    if "proc" in said and "mount" in said:
        return _CONTAINER
    if _switch("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor refuses user namespaces to programs without a profile: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for bwrap with 'userns,'"
        )
    if "No space left on device" in said:
        return "too many user namespaces are in use: raise sysctl user.max_user_namespaces"
    if "namespace" in said or "uid map" in said or "ermission" in said or "not permitted" in said:
        return _CONTAINER if in_container() else "something forbids namespaces here: see the kernel log"
    return "`agenthost doctor` shows what works on this machine, and what does not"


def in_container() -> bool:
    """Guess whether this is a container, by the marks that engines leave."""
    return any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv"))


def _switch(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None

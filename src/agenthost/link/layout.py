"""Where things are inside a sandbox."""

from __future__ import annotations

from dataclasses import dataclass

from agenthost.sandbox import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLayout:
    """Where things are inside a sandbox.

    Attributes:
        workdir, home, spool_dir: Absolute paths; ``spool_dir`` is the guest's own, mode 0700.
        boot_dir: Where Boot.files are found.
        python: The interpreter that runs guest and runner.
        site_dirs: Directories that hold claude_agent_sdk and what it needs, where ``python`` alone
            would not find them.
        isolation: What keeps the sandbox apart.
        user_is_root: Whether programs run as uid 0 inside.
        agent_uid: The uid and gid of programs and file calls, where the guest runs as root beside them: its
            socket, its streams and its keys are then out of the agent's reach. None where both have the same
            user.
        port: The TCP port that hosts reach the guest through, where there is one; see
            ``agenthost.link.carriers.http``.
        address: The address that the guest listens at then: ``0.0.0.0``, ``::``, which takes IPv4, too, or
            one of loopback.
    """

    workdir: str
    home: str
    spool_dir: str
    boot_dir: str
    python: str
    site_dirs: tuple[str, ...]
    isolation: Isolation
    user_is_root: bool
    agent_uid: int | None = None
    port: int | None = None
    address: str = "0.0.0.0"

    def runner_argv(self, *, mcp: bool = False) -> list[str]:
        """Return the command of agenthost's own runner, with ``mcp`` one for in-process MCP servers."""
        # Where the SDK's directories are named, the interpreter's own packages must not come before them.
        flags = ["-I", "-S"] if self.site_dirs else ["-I"]
        argv = [self.python, *flags, f"{self.boot_dir}/runner.pyz"]
        if mcp:
            argv.append("--mcp")
        for folder in self.site_dirs:
            argv += ["--site", folder]
        return argv

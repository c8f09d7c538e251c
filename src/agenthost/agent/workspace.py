"""Which of the paths that options name are there in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from agenthost.sandbox import Sandbox


async def missing_paths(sandbox: Sandbox, paths: Sequence[str]) -> set[str]:
    """Return those of the paths that are not there in the sandbox."""
    if not paths:
        return set()
    script = 'for path; do [ -e "$path" ] || printf "%s\\0" "$path"; done'
    result = await sandbox.exec(["sh", "-c", script, "sh", *paths], cwd=sandbox.workdir)
    return {item.decode("utf-8", "surrogateescape") for item in result.stdout.split(b"\0") if item}

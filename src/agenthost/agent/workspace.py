"""Which of the paths that options name are there in a sandbox."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from agenthost.errors import SandboxError
from agenthost.sandbox import Sandbox


async def missing_paths(sandbox: Sandbox, paths: Mapping[str, str]) -> set[str]:
    """Return those of the options' paths that are not there in the sandbox, by the names of the options.

    A relative path begins at ``cwd``, where the CLI runs, and ``cwd`` itself at the working directory.
    """
    if not paths:
        return set()
    start = posixpath.join(sandbox.workdir, paths.get("cwd", ""))
    places = [start if name == "cwd" else posixpath.join(start, path) for name, path in paths.items()]
    script = 'for path; do [ -e "$path" ]; printf "%s\\n" $?; done'
    result = await sandbox.exec(["sh", "-c", script, "sh", *places], cwd="/")
    codes = result.stdout.split()
    if result.exit_code or len(codes) != len(paths):
        raise SandboxError(f"the paths of the options could not be looked for: {result.stderr[:500]!r}")
    return {name for name, code in zip(paths, codes, strict=True) if code != b"0"}

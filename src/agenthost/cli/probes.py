"""What an agent could get at in a sandbox, found out from inside it."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agenthost.sandbox import Sandbox
from agenthost.statedir import state_directory

_PROBE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one probe.

    Attributes:
        name: What was looked for.
        found: Where it was found; empty is good.
        control: Whether the same search finds what the probe itself planted. Without that it says nothing.
        looked: Where was looked.
        control_text: What the control did.
    """

    name: str
    found: Sequence[str]
    control: bool
    looked: str
    control_text: str

    @property
    def good(self) -> bool:
        """True when nothing was found by a search that works."""
        return self.control and not self.found


async def look_from_inside(sandbox: Sandbox, key: str, host_port: int) -> list[Finding]:
    """Look for a key, for a network and for files of the host, from inside a sandbox.

    Args:
        sandbox: Where.
        key: The credential that must not be there.
        host_port: A port that something on the host listens at.

    Raises:
        RuntimeError: The probe itself failed.
    """
    with _files_on_the_host() as (paths, content):
        parameters = {
            "key": key.encode().hex(),
            "content": content.encode().hex(),
            "paths": [str(path).encode().hex() for path in paths],
            "port": host_port,
        }
        source = files("agenthost.cli").joinpath("probe_inside.py").read_text("utf-8")
        program = f"{source}\n\nmain({json.dumps(parameters)!r})\n"
        done = await sandbox.exec(["python3", "-"], stdin=program.encode(), timeout=_PROBE_SECONDS)
    if done.exit_code != 0:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"the probe inside failed with exit code {done.exit_code}: {said}")
    return [Finding(**finding) for finding in json.loads(done.stdout)]


@contextmanager
def _files_on_the_host() -> Generator[tuple[list[Path], str], None, None]:
    """Have a file in the host's temporary directory and one in the user's own, with a text of their own."""
    content = f"only on the host {secrets.token_hex(24)}"
    own = state_directory()
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        paths: list[Path] = []
        for directory in (Path(tempfile.gettempdir()), own):
            file = stack.enter_context(
                tempfile.NamedTemporaryFile("w", prefix="agenthost-demo-", dir=directory, encoding="utf-8")
            )
            file.write(content)
            file.flush()
            Path(file.name).chmod(0o644)
            paths.append(Path(file.name).resolve())
        yield paths, content

"""What must be in place inside before an agent is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenthost.agent.options import apply_defaults
from agenthost.agent.plan import Plan, check_paths
from agenthost.agent.progress import Reporter
from agenthost.agent.workspace import missing_paths
from agenthost.files.transfer import upload_dir
from agenthost.files.values import Uploaded

if TYPE_CHECKING:
    from agenthost.link.client import GuestSandbox


async def prepare(plan: Plan, guest: GuestSandbox, report: Reporter) -> None:
    """Bring in the files, check what the options name and complete them, while the runner imports the SDK."""
    if plan.workspace is not None:
        report.tell("workspace", f"uploading {plan.workspace}")
        uploaded = await upload_dir(guest, plan.workspace, guest.workdir)
        report.tell("workspace", _describe(uploaded))
    paths = plan.options.paths()
    check_paths(paths, await missing_paths(guest, paths))
    apply_defaults(
        plan.options, plan.defaults, config_dir=f"{guest.layout.home.rstrip('/')}/.agenthost/claude"
    )
    env = plan.options.env
    if plan.access is not None:
        for name, value in _patience(plan.limits.host_away).items():
            env.setdefault(name, value)
    if guest.layout.user_is_root and guest.capabilities.isolation != "none":
        env.setdefault("IS_SANDBOX", "1")  # without it the CLI refuses to bypass permissions as root


def _patience(seconds: float) -> dict[str, str]:
    """Return what makes the CLI wait for the model as long as a host may be away.

    A model request is held meanwhile, and an answer that had begun stands still. The CLI (2.1 in
    claude-agent-sdk 0.2) has more limits than API_TIMEOUT_MS: 5 minutes without a byte on a connection, 3 to
    5 minutes without an event or without the head of an answer, and 10 minutes without progress of a subagent
    in the background. The host, which is there when the model is asked, gives up a silent model instead.
    """
    # Not below the CLI's own limits, which suit a host that is connected. The CLI takes at most 31 bits.
    milliseconds = str(min(max(int(seconds * 1000), 600_000), 2**31 - 1))
    return {
        "API_TIMEOUT_MS": milliseconds,
        "API_FORCE_IDLE_TIMEOUT": "0",
        "CLAUDE_ENABLE_STREAM_WATCHDOG": "0",
        "CLAUDE_ENABLE_BYTE_WATCHDOG": "0",
        "CLAUDE_ASYNC_AGENT_STALL_TIMEOUT_MS": milliseconds,
    }


def _describe(uploaded: Uploaded) -> str:
    text = f"uploaded {uploaded.files} files, {uploaded.size / 1e6:.1f} MB"
    if uploaded.ignored:
        shown = ", ".join(uploaded.ignored[:5]) + (", ..." if len(uploaded.ignored) > 5 else "")
        text += f"; left out: {shown}"
    return text

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
    from agenthost.guest.client import GuestSandbox


async def prepare(plan: Plan, guest: GuestSandbox, report: Reporter) -> None:
    """Bring in the files, check what the options name and complete them, while the runner imports the SDK."""
    if plan.workspace is not None:
        report.tell("workspace", f"uploading {plan.workspace}")
        uploaded = await upload_dir(guest, plan.workspace, guest.workdir)
        report.tell("workspace", _describe(uploaded))
    paths = plan.options.paths()
    check_paths(paths, await missing_paths(guest, list(paths.values())))
    apply_defaults(
        plan.options, plan.defaults, config_dir=f"{guest.layout.home.rstrip('/')}/.agenthost/claude"
    )
    env = plan.options.env
    if plan.access is not None:
        # A request is held while this host is away: the CLI must not give it up before.
        env.setdefault("API_TIMEOUT_MS", str(int(plan.limits.host_away * 1000)))
    if guest.layout.user_is_root and guest.capabilities.isolation != "none":
        env.setdefault("IS_SANDBOX", "1")  # without it the CLI refuses to bypass permissions as root


def _describe(uploaded: Uploaded) -> str:
    text = f"uploaded {uploaded.files} files, {uploaded.size / 1e6:.1f} MB"
    if uploaded.ignored:
        shown = ", ".join(uploaded.ignored[:5]) + (", ..." if len(uploaded.ignored) > 5 else "")
        text += f"; left out: {shown}"
    return text

"""Where things are in a sandbox, and what is said of it in its metadata."""

from __future__ import annotations

USER = "user"  # E2B puts this account, with password-free sudo, into every template
HOME = "/home/user"
WORKDIR = "/workspace"
BOOT = f"{HOME}/.agenthost"
SPOOL = f"{BOOT}/spool"

# Metadata is shown by E2B's tools: no secrets.
NAME = "agenthost-name"
MARK = "agenthost-provider"  # on all that is ours; its value is the provider's name
WORKDIR_MARK = "agenthost-workdir"  # where it is not WORKDIR; a label, as ``layout`` needs it
OURS = (NAME, MARK)  # not told as labels

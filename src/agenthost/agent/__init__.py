"""Agents in sandboxes, on the host's side.

hosted.py      HostedAgent              one_shot.py    query
life.py        what is opened and closed, in order
messages.py    what the agent says      preparing.py   what is in place before it is connected
model_serving.py  takes up model requests
place.py       the sandbox it lives in  names.py       what agents are called
ref.py         where an agent is, and how far it was read
attachment.py  what to attach to, as what, and from where on
callbacks.py   functions that it may ask for     answering.py   calls them
mcp_server.py  in-process MCP servers   store.py       the session store
lease.py       keeps a leased sandbox while the agent works
hook_timeouts.py  what a hook says that takes too long
plan.py        what was asked for       options.py     options as data
defaults.py    SafeDefaults             credentials.py which key, and where it stays
progress.py    what is under way
journal.py     events from the agent    sender.py      lines to it
model_proxy.py model traffic            errors.py      exceptions from inside
model_guard.py decides about each model request, by
model_policy.py   what a request may be  model_budget.py  how many there may be
model_names.py    which models           model_prices.py  what they cost
model_json.py     a body as data         model_usage.py   what an answer has used
workspace.py   which paths are there
message_json.py  messages for what is not Python
audit/         the audit log            security_report.py  how safe it is, before anything is made
"""

from agenthost.agent.audit import Audit
from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.hosted import HostedAgent
from agenthost.agent.message_json import message_from_json, message_to_json
from agenthost.agent.one_shot import query
from agenthost.agent.progress import Progress
from agenthost.agent.ref import AgentRef, Cursor
from agenthost.agent.usage import Usage

__all__ = [
    "AgentRef",
    "Audit",
    "Cursor",
    "HostedAgent",
    "Progress",
    "SafeDefaults",
    "Usage",
    "message_from_json",
    "message_to_json",
    "query",
]

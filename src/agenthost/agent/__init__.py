"""Agents in sandboxes, on the host's side.

hosted.py      HostedAgent              one_shot.py    query
life.py        what is opened and closed, in order
plan.py        what was asked for       options.py     options as data
defaults.py    SafeDefaults             credentials.py which key, and where it stays
progress.py    what is under way
journal.py     events from the agent    sender.py      lines to it
model_proxy.py model traffic            errors.py      exceptions from inside
workspace.py   files in and out         archive.py     tar, without secrets and without surprises
"""

from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.hosted import HostedAgent
from agenthost.agent.one_shot import query
from agenthost.agent.progress import Progress
from agenthost.agent.usage import Usage

__all__ = ["HostedAgent", "Progress", "SafeDefaults", "Usage", "query"]

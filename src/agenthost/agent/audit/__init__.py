"""The audit log: what an agent did and who allowed it, one JSON object a line, on the host.

settings.py   Audit, the levels, and where an agent's log is
log.py        the file: numbered records, whole after any crash
trail.py      from the journal and the host's own decisions to records
pending.py    tool calls and questions that have no decision yet
verdicts.py   what an answer of a callback or a hook decides
digests.py    digests of values, and masking of secrets
workdir.py    which files of the working directory changed
"""

from agenthost.agent.audit.digests import digest_of
from agenthost.agent.audit.log import read_log
from agenthost.agent.audit.settings import Audit, find_log
from agenthost.agent.audit.trail import AuditTrail

__all__ = ["Audit", "AuditTrail", "digest_of", "find_log", "read_log"]

"""The account at Vercel: from options, from a short-lived OIDC token, or from an access token."""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from agenthost.adapter.checks import credential
from agenthost.errors import AccessDeniedError

OIDC, OIDC_FILE = "VERCEL_OIDC_TOKEN", "VERCEL_OIDC_TOKEN_FILE"
_REMEDY = "run `vercel env pull` for a new one, or set VERCEL_TOKEN, VERCEL_TEAM_ID and VERCEL_PROJECT_ID"


Account: TypeAlias = tuple[str, str, str]  # the token, the team and the project


def account_source(token: str | None, team_id: str | None, project_id: str | None) -> Callable[[], Account]:
    """Return what is asked for the account before each call: OIDC tokens are replaced while a program runs.

    Any option rules OIDC out: a token that happens to be in the environment belongs to another project.

    Raises:
        MissingCredentialError: There is neither an OIDC token nor the three parts of an account.
    """
    names = {
        "token": (token, "VERCEL_TOKEN"),
        "team_id": (team_id, "VERCEL_TEAM_ID"),
        "project_id": (project_id, "VERCEL_PROJECT_ID"),
    }
    if not (token or team_id or project_id) and (os.environ.get(OIDC) or os.environ.get(OIDC_FILE)):
        return _oidc_account
    found, team, project = credential("vercel", **names)
    return lambda: (found, team, project)


def _oidc_account() -> Account:
    """Return the account that the OIDC token names. Its signature is for Vercel to check.

    Raises:
        AccessDeniedError: The token has expired, or is not a valid one.
    """
    try:
        token = os.environ.get(OIDC) or Path(os.environ[OIDC_FILE]).read_text().strip()
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        team, project, end = str(claims["owner_id"]), str(claims["project_id"]), float(claims["exp"])
    except (OSError, LookupError, ValueError, TypeError):
        raise AccessDeniedError(
            f"{OIDC} or {OIDC_FILE} does not hold a valid OIDC token: {_REMEDY}"
        ) from None
    if end <= time.time():
        raise AccessDeniedError(f"the OIDC token of Vercel has expired: {_REMEDY}")
    return token, team, project

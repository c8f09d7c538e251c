"""The command in this process: start-up costs nothing, and what it prints is captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.preloaded import Done

from agenthost.cli.app import run_command_line

Run = Callable[..., Done]


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command line in an empty directory, without a developer's credentials."""
    monkeypatch.chdir(tmp_path)
    clouds = ("E2B_API_KEY", "FLY_API_TOKEN", "FLY_APP", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
    for name in (*clouds, "DOCKER_HOST", "AGENTHOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CLOUDFLARE_SANDBOX_WORKER_URL", "CLOUDFLARE_SANDBOX_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("VERCEL_OIDC_TOKEN", "VERCEL_OIDC_TOKEN_FILE", "VERCEL_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            code = run_command_line(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run

"""Copies of the local provider without one of its defences, for positive controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agenthost.providers.local import bwrap, isolated, seccomp
from agenthost.providers.local.keeper.numbers import ARGS_FD
from agenthost.spec import ResourceLimits, SandboxSpec


def without_options(monkeypatch: pytest.MonkeyPatch, *gone: str) -> None:
    """Have bubblewrap started without some of its options."""
    original: Callable[[Any], bwrap.Launch] = bwrap.build

    def build(profile: bwrap.Profile) -> bwrap.Launch:
        launch = original(profile)
        options = launch.data[ARGS_FD].split(b"\0")
        kept = [option for option in options if option.decode() not in gone]
        assert len(kept) < len(options)
        launch.data[ARGS_FD] = b"\0".join(kept)
        return launch

    monkeypatch.setattr(bwrap, "build", build)


def with_decisions(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """Have the system call filter decide otherwise: ``unknown="allow"`` lets unknown calls through."""
    original = seccomp.decisions

    def decisions(machine: seccomp.Machine) -> list[tuple[int, str]]:
        return [(start, changed.get(label, label)) for start, label in original(machine)]

    monkeypatch.setattr(seccomp, "decisions", decisions)


def without_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sandboxes bounded by what was asked for alone."""

    def nothing(_spec: SandboxSpec, _directory: str) -> ResourceLimits:
        return ResourceLimits()

    monkeypatch.setattr(isolated, "default_limits", nothing)

"""What every test of the docker provider gets."""

from __future__ import annotations

from support.docker_engine import docker_engine

__all__ = ["docker_engine"]

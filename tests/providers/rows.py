"""Every adapter of this repository. The next one is one row more."""

from __future__ import annotations

from providers.cloudflare_row import CLOUDFLARE
from providers.daytona_row import DAYTONA
from providers.docker_row import DOCKER
from providers.e2b_row import E2B
from providers.fly_row import FLY
from providers.local_rows import LOCAL, UNISOLATED
from providers.modal_row import MODAL
from providers.vercel_row import VERCEL

ROWS = (LOCAL, UNISOLATED, DOCKER, CLOUDFLARE, DAYTONA, E2B, FLY, MODAL, VERCEL)

# What makes sandboxes is tried with these in the normal run: on this machine, and with one cloud.
USUAL = ("local", "e2b")

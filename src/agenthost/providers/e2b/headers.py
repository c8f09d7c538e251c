"""What E2B accepts as headers that its proxy adds."""

from __future__ import annotations

from functools import partial

from agenthost.adapter.network import check_header_injection

# Sources: infra 54693ff, sandbox_create.go (hosts and their length), and its API's validation of headers.
check_headers = partial(
    check_header_injection,
    vendor="E2B",
    wildcards=False,
    most_hosts=10,
    longest_host=128,
    most_of_host=20,
    longest_name=64,
    longest_value=2048,
)

"""What a provider cannot do is refused by name."""

from __future__ import annotations

import pytest

from agenthost import Capabilities, HeaderInjection, Mount, NetworkPolicy, ResourceLimits, SandboxSpec
from agenthost.adapter.checks import refuse_fields, refuse_incapable, refuse_options
from agenthost.errors import ConfigError, UnsupportedError

NOTHING = Capabilities(isolation="none")
ALL = Capabilities(
    isolation="microvm",
    networks=frozenset({"allow"}),
    limits=frozenset({"pids"}),
    mounts=True,
    header_injection=True,
    lease=True,
)
ASKED = {
    "network=allow": SandboxSpec(network=NetworkPolicy.allow(["example.org"])),
    "limits.pids": SandboxSpec(limits=ResourceLimits(pids=5)),
    "mounts": SandboxSpec(mounts=(Mount(source="/usr", target="/mnt"),)),
    "inject": SandboxSpec(inject=(HeaderInjection(host="h", header="x", secret="hidden"),)),
    "lease=5": SandboxSpec(lease=5),
}


@pytest.mark.parametrize("named", ASKED)
def test_what_the_capabilities_lack_is_refused_and_what_they_have_is_not(named: str) -> None:
    with pytest.raises(UnsupportedError, match=named) as caught:
        refuse_incapable(ASKED[named], NOTHING, "mine")
    assert "mine" in str(caught.value)
    assert "hidden" not in str(caught.value)
    refuse_incapable(ASKED[named], ALL, "mine")
    refuse_incapable(SandboxSpec(), NOTHING, "mine")


def test_a_field_without_a_use_is_refused() -> None:
    refuse_fields(SandboxSpec(), "mine", "image", "region")
    with pytest.raises(UnsupportedError, match="region='eu': the mine provider"):
        refuse_fields(SandboxSpec(region="eu"), "mine", "image", "region")


def test_an_unknown_option_is_refused() -> None:
    spec = SandboxSpec(provider_options={"known": 1, "other": 2})
    refuse_options(spec, "mine", ("known", "other"))
    with pytest.raises(ConfigError, match="'other'; the mine provider knows: known"):
        refuse_options(spec, "mine", ("known",))
    with pytest.raises(ConfigError, match="knows: none"):
        refuse_options(spec, "mine")

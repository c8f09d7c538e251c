"""The profile in ~/.modal.toml, which Modal's client reads as it is imported: it steers nothing of ours."""

from __future__ import annotations

from modal.config import DEFAULT_SERVER_URL, config

from agenthost.errors import ConfigError
from agenthost.providers.modal.settings import Settings


def refuse_profile(settings: Settings) -> None:
    """Refuse what a profile would decide: a token must not go to a server that nobody named beside it.

    Raises:
        ConfigError: The profile names a server or an environment, and neither option nor variable does; or
            Modal's first kind of sandboxes is asked for, which this adapter does not know.
    """
    for key, given, unless in (
        ("server_url", settings.server_url, DEFAULT_SERVER_URL),
        ("environment", settings.environment, None),
    ):
        found: object = config.get(key, use_env=False)
        if given is None and found and found != unless:
            raise ConfigError(
                f"the active profile of ~/.modal.toml says {key} = {found!r}, and is not read here: say it "
                f"by {key}= or MODAL_{key.upper()}, or take it out of the profile"
            )
    if config.get("sandbox_v2") is not True:
        raise ConfigError(
            "sandbox_v2 is off, by MODAL_SANDBOX_V2 or the active profile of ~/.modal.toml: the modal "
            "provider knows Modal's sandboxes of version 2 alone"
        )

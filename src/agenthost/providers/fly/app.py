"""The app whose machines are the sandboxes: makes it ready, as ``agenthost fly init`` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agenthost.adapter.record import PROVIDER_LABEL
from agenthost.errors import ConfigError, NameTakenError
from agenthost.providers.fly.api import Call, FlyApi
from agenthost.providers.fly.errors import ForeignAppError, MissingAppError

_FLYCAST = "fdaa:"  # how the addresses of private networks begin


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedApp:
    """An app that sandboxes can be made in.

    Attributes:
        name: Unique at Fly, whichever organisation has it.
        organization: The slug of the organisation that has it, in Fly's words.
        url: Where its machines are reached.
        made: What was made now: ``app``, ``shared_v4``, ``v6``.
        found: What was there already, likewise.
    """

    name: str
    organization: str
    url: str
    made: tuple[str, ...]
    found: tuple[str, ...]


async def prepare_app(api: FlyApi, name: str, *, organization: str, url: str) -> PreparedApp:
    """Make an app and its public addresses, where they are missing. Idempotent.

    The app gets a private network of its own, so that its machines do not reach the organisation's others.

    Args:
        api: The Machines API, with a token that may make apps.
        name: Of the app.
        organization: The slug of the organisation in which it is made.
        url: Where its machines will be reached, for the answer.

    Raises:
        NameTakenError: Another organisation has an app of this name.
        ConfigError: The app has machines that agenthost did not make.
    """
    made: list[str] = []
    found: list[str] = []
    doing = f"looking up the app {name}"
    try:
        app = await api.again(doing, Call("get app", "GET", (name,)))
        found.append("app")
    except ForeignAppError as error:
        raise _taken(name) from error
    except MissingAppError:
        body = {"app_name": name, "org_slug": organization, "network": name}
        try:
            await api.once(f"making the app {name}", Call("create app", "POST", (), body=body))
        except NameTakenError as error:
            raise _taken(name) from error
        made.append("app")
        app = await api.again(doing, Call("get app", "GET", (name,)))
    else:
        await _refuse_in_use(api, name)
    doing = f"looking up the addresses of the app {name}"
    where = (name, "ip_assignments")
    answer: Any = await api.again(doing, Call("list addresses", "GET", where))
    addresses: list[Any] = answer.get("ips") or []
    is_there = {
        "shared_v4": any(one.get("shared") for one in addresses),
        "v6": any(":" in one["ip"] and not one["ip"].startswith(_FLYCAST) for one in addresses),
    }
    for kind, there in is_there.items():
        (found if there else made).append(kind)
        if not there:
            doing = f"giving the app {name} an address of the type {kind}"
            await api.once(doing, Call("assign address", "POST", where, body={"type": kind}))
    return PreparedApp(
        name=name,
        organization=str(app.get("organization", {}).get("slug", organization)),
        url=url,
        made=tuple(made),
        found=tuple(found),
    )


async def _refuse_in_use(api: FlyApi, name: str) -> None:
    """Refuse an app of another program: Fly's proxy would send its visitors to sandboxes, too."""
    doing = f"listing the machines of the app {name}"
    machines: list[Any] = await api.again(doing, Call("list machines", "GET", (name, "machines")))
    for machine in machines:
        if PROVIDER_LABEL not in machine["config"].get("metadata", {}):
            raise ConfigError(
                f"the app {name} has machines that agenthost did not make ({machine['id']}, for instance): "
                "choose another name, for an app of agenthost's own"
            )


def _taken(name: str) -> NameTakenError:
    return NameTakenError(
        f"an app named {name} exists already, and this token cannot see it. App names are unique across all "
        "organisations of Fly: choose another"
    )

"""Providers by name: who comes first, what is imported when, and what each mistake says."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from support.installed import error_of, install, said_by, write_module

from agenthost.errors import MissingExtraError, UnknownProviderError
from agenthost.registry import ProviderName, load_provider, open_provider, provider_names


def test_a_registered_name_comes_before_an_entry_point_and_that_before_our_own(tmp_path: Path) -> None:
    install(tmp_path, "acme-sandbox", {"local": "acme:Provider", "acme": "acme:Provider"})
    for name in ("acme", "mine"):
        write_module(tmp_path, name)
    program = """
    import logging
    import agenthost
    from agenthost.registry import load_provider
    logging.disable()
    print(load_provider("local-unisolated").__module__, end=" ")
    print(load_provider("local").__module__, load_provider("acme").__module__, end=" ")
    agenthost.register_provider("local", "mine:Provider", replace=True)
    agenthost.register_provider("acme", "mine:Provider", replace=True)
    print(load_provider("local").__module__, load_provider("acme").__module__)
    """
    assert said_by(program, tmp_path) == "agenthost.providers.local.local_unisolated acme acme mine mine"


async def test_a_provider_that_is_there_is_used_as_it_is_whatever_its_name(tmp_path: Path) -> None:
    async with open_provider("local-unisolated", state_dir=str(tmp_path)) as provider:
        assert provider.name == "local-unisolated"
        assert [info async for info in provider.list()] == []


def test_an_entry_point_that_takes_our_place_is_told(tmp_path: Path) -> None:
    install(tmp_path, "acme-sandbox", {"local": "acme:Provider"})
    program = """
    import logging, sys
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    from agenthost.registry import provider_names
    provider_names()
    """
    assert said_by(program, tmp_path) == (
        "entry point 'local' (agenthost.providers) of acme-sandbox 1.2 takes the place of our own provider "
        "of this name"
    )


def test_nothing_is_imported_before_it_is_used(tmp_path: Path) -> None:
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider"})
    for name in ("acme", "mine"):
        write_module(tmp_path, name)
    program = """
    import sys
    import agenthost
    from agenthost.registry import provider_names
    agenthost.register_provider("mine", "mine:Provider")
    assert {"acme", "mine", "local"} <= set(provider_names())
    print(sorted({"acme", "mine", "agenthost.providers"} & set(sys.modules)), end=" ")
    agenthost.open_provider("acme")
    print(sorted({"acme", "mine"} & set(sys.modules)))
    """
    assert said_by(program, tmp_path) == "[] ['acme']"


def test_an_unknown_name_lists_what_exists_and_the_nearest() -> None:
    with pytest.raises(UnknownProviderError) as raised:
        open_provider("local_unisolatd")
    assert str(raised.value) == (
        "there is no provider 'local_unisolatd'. Did you mean 'local-unisolated'? "
        f"Known are: {', '.join(provider_names())}"
    )
    with pytest.raises(UnknownProviderError) as raised:
        open_provider("quux")
    assert str(raised.value) == f"there is no provider 'quux'. Known are: {', '.join(provider_names())}"


def test_only_what_can_be_opened_is_listed() -> None:
    for name in provider_names():
        try:
            assert callable(load_provider(name))
        except MissingExtraError:
            continue  # it is there once the command of the message has been run


def test_a_missing_extra_gives_the_command_that_installs_it(tmp_path: Path) -> None:
    write_module(tmp_path, "adapter", "import vendor_client\nclass Provider: ...\n")
    how = 'extra="agenthost[modal]", replace=True'
    register = f'agenthost.register_provider("modal", "adapter:Provider", {how})'
    assert error_of('agenthost.open_provider("modal")', tmp_path, before=register) == (
        "MissingExtraError: provider 'modal' needs a package that is not installed (No module named "
        "'vendor_client'). Install it: pip install 'agenthost[modal]'"
    )


def test_a_missing_extra_of_an_entry_point_gives_its_own_command(tmp_path: Path) -> None:
    write_module(tmp_path, "acme", "import acme_client\nclass Provider: ...\n")
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider [http]"})
    assert error_of('agenthost.open_provider("acme")', tmp_path) == (
        "MissingExtraError: provider 'acme' needs a package that is not installed (No module named "
        "'acme_client'). Install it: pip install 'acme-sandbox[http]'"
    )


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("import acme_client", "acme:Provider", "ModuleNotFoundError: No module named 'acme_client'"),
        ("1 / 0", "acme:Provider", "ZeroDivisionError: division by zero"),
        ("", "acme:Provider", "AttributeError: module 'acme' has no attribute 'Provider'"),
        ("Provider = 7", "acme:Provider", "TypeError: acme:Provider is a int and cannot be called"),
        ("", "acmee:Provider [http]", "ModuleNotFoundError: No module named 'acmee'"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(
    tmp_path: Path, source: str, target: str, why: str
) -> None:
    write_module(tmp_path, "acme", source)
    install(tmp_path, "acme-sandbox", {"acme": target})
    assert error_of('agenthost.open_provider("acme")', tmp_path) == (
        "ConfigError: the entry point 'acme' (agenthost.providers) of acme-sandbox 1.2 cannot be loaded: "
        f"{why}"
    )


def test_a_broken_entry_point_leaves_the_others_usable(tmp_path: Path) -> None:
    write_module(tmp_path, "acme", "1 / 0")
    write_module(tmp_path, "fine")
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider", "fine": "fine:Provider"})
    program = """
    from agenthost.registry import load_provider, provider_names
    print("acme" in provider_names(), load_provider("fine").name)
    """
    assert said_by(program, tmp_path) == "True fine"


def test_two_distributions_with_one_name_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("acme-one", "acme-two"):
        install(tmp_path, name, {"acme": "acme:Provider"})
    assert error_of('agenthost.open_provider("acme")', tmp_path) == (
        "ConfigError: there is more than one provider 'acme': entry point 'acme' (agenthost.providers) of "
        "acme-one 1.2; entry point 'acme' (agenthost.providers) of acme-two 1.2. Uninstall all but one, or "
        "choose with agenthost.register_provider(name, target, replace=True)"
    )


def test_a_registered_target_that_is_not_there_says_which(tmp_path: Path) -> None:
    register = 'agenthost.register_provider("acme", "nowhere.at_all:Provider")'
    assert error_of('agenthost.open_provider("acme")', tmp_path, before=register) == (
        "ConfigError: the registered provider 'acme' (nowhere.at_all:Provider) cannot be loaded: "
        "ModuleNotFoundError: No module named 'nowhere'"
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            '"local", "acme:Provider"',
            (
                "the name 'local' is taken: built-in provider 'local' "
                "(agenthost.providers.local.provider:LocalProvider). Choose another one, or say replace=True"
            ),
        ),
        (
            '"Acme_1", "acme:Provider"',
            "provider name 'Acme_1': use lower-case letters, digits and single dashes",
        ),
        (
            '"acme", "acme.Provider"',
            "target of provider 'acme' is 'acme.Provider'; it must be text of the form 'module:attribute'",
        ),
        (
            '"acme", int',
            "target of provider 'acme' is <class 'int'>; it must be text of the form 'module:attribute'",
        ),
    ],
)
def test_what_cannot_be_registered_says_why(tmp_path: Path, call: str, said: str) -> None:
    assert error_of(f"agenthost.register_provider({call})", tmp_path) == f"ConfigError: {said}"


def test_a_name_with_options_is_a_name_keeps_them_in_copies_and_shows_none() -> None:
    name = ProviderName("local", {"secret": "hidden"})
    assert name == "local"
    for one in (name, copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
        assert one.options == {"secret": "hidden"}
        assert "hidden" not in f"{one!r} {one}"


def test_options_of_a_name_and_of_the_call_reach_the_provider(tmp_path: Path) -> None:
    write_module(tmp_path, "acme")
    program = """
    import agenthost
    from agenthost.registry import ProviderName
    agenthost.register_provider("acme", "acme:Provider")
    made = agenthost.open_provider(ProviderName("acme", {"url": "one", "retries": 1}), retries=2)
    print(made.url, made.retries)
    """
    assert said_by(program, tmp_path) == "one 2"


def test_what_a_registered_provider_made_ends_with_the_program(tmp_path: Path) -> None:
    """Its options are not the default ones, and the process that ends it has not registered it."""
    write_module(
        tmp_path,
        "acme",
        """
        from agenthost.providers.local.local_unisolated import UnisolatedProvider

        class Provider(UnisolatedProvider): ...
        """,
    )
    state = tmp_path / "state"
    program = f"""
    import anyio
    import agenthost
    from agenthost.owned import own
    agenthost.register_provider("acme", "acme:Provider")

    async def main():
        async with agenthost.open_provider("acme", state_dir={str(state)!r}) as provider:
            sandbox = await provider.create(agenthost.SandboxSpec())
            own(sandbox.provider, sandbox.id, opened_as="acme")
            print((await sandbox.info()).state)

    anyio.run(main)
    """
    assert said_by(program, tmp_path) == "running"
    assert list(state.glob("*/*")) == []


def test_a_required_option_that_is_missing_is_named_with_where_to_set_it(tmp_path: Path) -> None:
    install(tmp_path, "acme-sandbox", {"acme": "acme:Provider"})
    write_module(tmp_path, "acme", "class Provider:\n    def __init__(self, account, *, zone, size=1): ...\n")
    assert said_by("import agenthost; agenthost.open_provider('acme', account=1, zone=2)", tmp_path) == ""
    assert error_of("agenthost.open_provider('acme', zone='here')", tmp_path) == (
        "MissingCredentialError: provider 'acme' requires the option account: set it in "
        "[providers.acme] of a config, or as arguments of open_provider"
    )

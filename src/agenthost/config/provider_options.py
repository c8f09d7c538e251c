"""What a provider can be told in its table ``[providers.NAME]``.

Its class says so by an attribute ``options_model``, a pydantic model with ``extra="forbid"``; without one,
the keyword parameters that are data are what it knows.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError, create_model

from agenthost.config import shape
from agenthost.config.build import Lookup
from agenthost.config.collected import Collected
from agenthost.config.environment import as_json
from agenthost.config.mistakes import Mistake, find_mistakes
from agenthost.config.shape import Path
from agenthost.config.sources import Sources, is_reference
from agenthost.config.table import Reference
from agenthost.errors import ConfigError
from agenthost.registry import load_provider, registration

# Given by HostedAgent, from the table [limits].
_NOT_HERE = {"limits"}
_DATA = (str, bytes, int, float, bool, type(None), SecretStr, SecretBytes, PurePath)


def options_model(factory: Any) -> type[BaseModel]:
    """Return the model of a provider's options."""
    declared = getattr(factory, "options_model", None)
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return declared
    fields: dict[str, Any] = {}
    extra = "forbid"
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"  # what it knows is its own affair then
        elif parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            known = parameter.annotation is not inspect.Parameter.empty
            annotation = _hint(factory, name, parameter.annotation) if known else Any
            if name not in _NOT_HERE and _is_data(annotation):
                default: Any = ... if parameter.default is inspect.Parameter.empty else parameter.default
                fields[name] = (annotation, default)
    config = ConfigDict(extra=cast("Any", extra), arbitrary_types_allowed=True)
    return create_model("Options", __config__=config, **fields)


def open_options(sources: Sources, name: str, lookup: Lookup) -> dict[str, object]:
    """Return the options of a provider's table as it takes them; secrets are looked up.

    Raises:
        UnknownProviderError: No provider has this name.
        MissingExtraError: Its package is not installed.
        MissingCredentialError: A variable is not set.
        ConfigError: An option that it does not know, or of the wrong type; with its place.
    """
    tree = (sources.tables.providers or {}).get(name)
    if not tree:
        registration(name)
        return {}
    model = options_model(load_provider(name))
    prefix = ("providers", name)
    plain: dict[str, Any] = {}
    wrong: list[Mistake] = []
    unset: set[Path] = set()
    found = Collected()
    for key, value in tree.items():
        path, annotation = (*prefix, key), shape.below(model, key)
        if is_reference(value):
            plain[key], missing = "a secret that is not known", len(found)
            with found.step():
                plain[key] = lookup(path, Reference(env=value["env"]))
            if len(found) > missing:
                unset.add(path)
        elif sources.variable(path) is not None:
            plain[key] = _meant(annotation, value)
        else:
            plain[key] = value
            if isinstance(value, str) and {SecretStr, SecretBytes} & set(shape.members(annotation)):
                wrong.append(Mistake(path, f"a secret is expected: give {Reference.shown}"))
    try:
        # By way of JSON: its strict mode takes a list for a tuple and text for a path, not text for a number.
        made = model.model_validate_json(json.dumps(plain, default=str), strict=True)
    except ValidationError as error:
        wrong += [one for one in find_mistakes(error, plain, model, prefix) if one.path[:3] not in unset]
        made = None
    for one in wrong:
        with found.step():
            raise ConfigError(sources.tell(one.path, one.text))
    found.require()
    assert made is not None
    return {key: _revealed(getattr(made, key)) for key in sorted(made.model_fields_set)}


def _hint(factory: Any, name: str, annotation: Any) -> Any:
    """Return the type that a parameter's annotation names; the annotation where it names none."""
    function: Callable[..., Any] = factory.__init__ if inspect.isclass(factory) else factory
    holder = type("Holder", (), {"__annotations__": {name: annotation}})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}))[name]
    except (NameError, TypeError):  # imported for type checkers only
        return annotation


def _is_data(annotation: Any) -> bool:
    if annotation in (Any, object):
        return True
    if get_origin(annotation) is Literal:
        return True
    if get_origin(annotation) is not None:
        return all(_is_data(one) for one in get_args(annotation))
    if annotation is Ellipsis:
        return True
    return isinstance(annotation, type) and issubclass(
        annotation, (*_DATA, BaseModel, list, dict, tuple, set)
    )


def _meant(annotation: Any, value: Any) -> Any:
    """Return what a variable's text means where something else than text is expected."""
    if not isinstance(value, str) or str in shape.members(annotation) or annotation in (None, Any):
        return value
    meant = as_json(value.lower() if bool in shape.members(annotation) else value)
    return value if isinstance(meant, str) else meant


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value

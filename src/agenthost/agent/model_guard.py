"""Decides about each model request of one agent, and remembers what was refused."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.model_budget import Bounds, Hold, ModelBudget, Used
from agenthost.agent.model_names import ModelNames, model_command, models_of
from agenthost.agent.model_policy import ModelPolicy, ModelRequest, Refusal
from agenthost.spec import Limits

_log = logging.getLogger("agenthost.agent.model")

# A JSON object that the CLI adds to each request.
_EXTRA_BODY = "CLAUDE_CODE_EXTRA_BODY"
_CLEAR = re.compile(r"\s*/(?:clear|new|reset)\b")


class ModelGuard:
    """What one agent may ask of the model, and what it has used of that.

    Attributes:
        policy: What a request may be.
        budget: How many there may be.
        refusals: How many were refused, by kind.
        on_refusal: Called with the kind and the message of each refusal. It must not raise or block.
    """

    def __init__(
        self,
        policy: ModelPolicy | None = None,
        budget: ModelBudget | None = None,
        *,
        on_refusal: Callable[[str, str], None] | None = None,
    ) -> None:
        """Guard by this policy and this budget; without them by those of an agent without options."""
        self.policy = policy or ModelPolicy()
        self.budget = budget or ModelBudget(Bounds())
        self.refusals: Counter[str] = Counter()
        self.on_refusal = on_refusal

    @classmethod
    def of_options(
        cls, fields: Mapping[str, Any], env: Mapping[str, str], limits: Limits, defaults: SafeDefaults
    ) -> Self:
        """Return the guard of an agent that starts with these options.

        Args:
            fields: Fields of ClaudeAgentOptions.
            env: Their ``env``, with what is inherited.
            limits: Bounds of the agent.
            defaults: What it does otherwise than on a laptop.
        """
        names = ModelNames(models_of(fields, env), any_model=defaults.other_models is None)
        for name in defaults.other_models or ():
            names.add(name)
        bounds = Bounds.of(
            limits,
            max_turns=fields.get("max_turns", defaults.max_turns),
            max_budget_usd=fields.get("max_budget_usd"),
        )
        extra = _object(env.get(_EXTRA_BODY))
        more = defaults.other_fields
        policy = ModelPolicy(names, fields=None if more is None else frozenset((*more, *extra)))
        return cls(policy, ModelBudget(bounds))

    @classmethod
    def of_ref(cls, text: str | None, limits: Limits) -> Self:
        """Return the guard of a running agent, by the text that ``to_json`` put into its ref.

        Without a text, nothing is known of the options: any model may be asked, the bounds are
        those of ``limits``, and nothing but the model is reached.
        """
        found = _object(text)
        names = ModelNames(_strings(found.get("models")), any_model=bool(found.get("any_model", True)))
        bounds = Bounds.of(limits, max_turns=found.get("turns"), max_budget_usd=found.get("budget"))
        given = cast("dict[str, Any]", found.get("used") or {})
        used = Used(**{one.name: given[one.name] for one in dataclasses.fields(Used) if one.name in given})
        policy = ModelPolicy(
            names,
            is_closed=bool(found.get("is_closed", True)),
            fields=None if found.get("fields", ()) is None else frozenset(_strings(found.get("fields"))),
        )
        return cls(policy, ModelBudget(bounds, used))

    def to_json(self) -> str:
        """Return what another process needs to go on guarding: no secrets."""
        policy, budget = self.policy, self.budget
        return json.dumps(
            {
                "models": list(policy.names.given),
                "any_model": policy.names.any_model,
                "is_closed": policy.is_closed,
                "fields": None if policy.fields is None else sorted(policy.fields),
                "turns": budget.bounds.turns,
                "budget": budget.bounds.budget,
                "used": dataclasses.asdict(budget.so_far()),
            }
        )

    def allow_model(self, name: str | None) -> None:
        """Allow a model from now on; None is the CLI's default."""
        self.policy.names.add(name or "default")

    def note_prompt(self, prompt: object) -> None:
        """Note that the host sends a prompt.

        Each has turns of its own, ``/clear`` begins a new budget, and ``/model NAME`` changes the model.
        """
        self.budget.used.prompts += 1
        text = _text_of(prompt)
        if _CLEAR.match(text):
            self.budget.begin_again()
        name = model_command(text)
        if name is not None:
            self.allow_model(name)

    async def admit(self, request: ModelRequest, size: int) -> Hold | Refusal | None:
        """Wait until a request may go. None: it asks no model, and may go. See ModelBudget."""
        return await self.budget.admit(request, size) if request.models else self.budget.admit_greeting()

    def note_refusal(self, refusal: Refusal) -> None:
        """Count a refusal. The first one of its kind is a warning in the log, those that follow are not."""
        self.refusals[refusal.kind] += 1
        level = logging.WARNING if self.refusals[refusal.kind] == 1 else logging.DEBUG
        _log.log(level, "a model request of the agent was refused: %s", refusal.message)
        if self.on_refusal is not None:
            self.on_refusal(refusal.kind, refusal.message)


def _text_of(prompt: object) -> str:
    """Return a prompt's text, where a command of the CLI can stand: as a whole, or in its first message."""
    if isinstance(prompt, list):
        first: object = next(iter(cast("list[object]", prompt)), None)
        message = cast("dict[str, Any]", first).get("message") if isinstance(first, dict) else None
        prompt = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
    return prompt if isinstance(prompt, str) else ""


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        value: object = json.loads(text or "{}")
    except ValueError:
        value = {}
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [one for one in found if isinstance(one, str)]

"""Every error survives pickle and copy: one that does not hangs a pool of processes, or hides the cause."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from agenthost import errors

ALL = [
    cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.AgentHostError)
]
KEYWORDS: dict[type, dict[str, Any]] = {
    errors.ExecTimeoutError: {"stdout": b"out", "stderr": b"err", "timeout": 1.5},
    errors.ReplayGapError: {"wanted": 1, "oldest": 7, "unit": "event"},
}


def through_pickle(error: Exception) -> Exception:
    copied: Exception = pickle.loads(pickle.dumps(error))
    return copied


@pytest.mark.parametrize("copied", [through_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_copy_has_the_class_the_text_and_the_fields(
    cls: type[Exception], copied: Callable[[Exception], Exception]
) -> None:
    error = cls("what happened", **KEYWORDS.get(cls, {}))
    error.add_note("and where")

    found = copied(error)

    assert type(found) is cls
    assert str(found) == "what happened"
    assert vars(found) == vars(error)

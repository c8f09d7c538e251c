"""What every table of the file is made of."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Table(BaseModel):
    """A table in which only the keys that it knows may stand.

    Attributes:
        shown: How a message says what is expected.
    """

    shown: ClassVar[str] = "a table"

    model_config = ConfigDict(extra="forbid")


class Reference(Table):
    """A secret: the name of the environment variable that holds it."""

    shown: ClassVar[str] = 'the name of an environment variable, as { env = "NAME" }'

    pattern: ClassVar[str] = r"^[A-Za-z_][A-Za-z0-9_]*$"

    env: str = Field(pattern=pattern)


Text = str | Reference

"""Shapes of the switches' routes."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from paletta_server.flags.service import State, Switch
from paletta_server.taxonomy.words import invisible

LONGEST = 300


def _line(text: str) -> str:
    if char := invisible(text):
        raise ValueError(f"contains the control character {char}")
    return " ".join(text.split())


class FlagIn(BaseModel):
    """`message` is what people read who run into the switch; without one they read the switch's own words."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[str, AfterValidator(_line), Field(max_length=LONGEST)] | None = None


class FlagView(BaseModel):
    """`on` with its message, who set it and when; else all three are null."""

    name: Switch
    on: bool
    message: str | None
    set_at: datetime | None
    set_by: str | None

    @classmethod
    def of(cls, state: State) -> "FlagView":
        return cls(
            name=state.name,
            on=state.message is not None,
            message=state.message,
            set_at=state.set_at,
            set_by=state.set_by,
        )

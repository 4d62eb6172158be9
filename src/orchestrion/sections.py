"""What all sections of orchestrion.yaml have in common: unknown keys are refused, amounts are finite, typos find their word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def misplaced(said: str, *at: str) -> PydanticCustomError:
    """An error of what stands further below than the value that is being checked: ``at`` is the way down from it."""
    return PydanticCustomError("misplaced", "{said}", {"said": said, "at": at})


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean …?" or the list of what is known, to end an error's sentence with."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(sorted(names))}." if names else ""

"""What is common to all settings: strict, frozen, sane numbers; and one line for what is wrong."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any, get_args

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it looks for them in all that is installed

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from rarl.errors import RarlError, did_you_mean

MOST = 2**53  # of an integer setting: beyond it neighbours are the same number in JSON and as float64


def once(values: list[Any]) -> list[Any]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


_A_NAME = "a name of letters, digits, '_', '-' and '.', not a path"


def check_name(name: str, what: str) -> str:
    """`name`, if it can be a part of a path: letters, digits, "_", "-" and ".", and no dot in front.

    Args:
      name: of a scale, an experiment, a task set or a variant.
      what: which of these, for the error.

    Raises:
      RarlError: it is no name, for example because it is a path.
    """
    if not _is_name(name):
        raise RarlError(f"{what} {name!r}: must be {_A_NAME}")
    return name


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None


def _named(values: Any) -> Any:
    """The keys of a mapping, the entries of a list, or a text alone are names; whole numbers are left alone."""
    for name in [values] if isinstance(values, str) else values or ():
        if not isinstance(name, int) and not _is_name(name):
            raise PydanticCustomError("name", f"must be {_A_NAME}", {"got": name})
    return values


Names = AfterValidator(_named)


class Settings(BaseModel):
    """Frozen; unknown keys are errors, and so are numbers that no setting can mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _sane_numbers(cls, value: Any) -> Any:
        _check_numbers(value, ())
        return value


def _check_numbers(value: Any, place: tuple[str, ...]) -> None:
    """Refuse NaN, infinity and integers that a float64 cannot hold exactly, in whatever mappings and lists they are."""
    if value is None or isinstance(value, str):  # the most frequent first: a scale has tens of thousands of values
        return
    if isinstance(value, int):
        if abs(value) > MOST:
            raise PydanticCustomError("number", "must be at most 2^53 in size", {"place": place, "got": value})
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PydanticCustomError("number", "must be a finite number", {"place": place, "got": value})
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_numbers(inner, (*place, str(i)))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check_numbers(inner, (*place, str(key)))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, whatever lists, mappings and unions are around them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def keys_of(model: type[BaseModel], location: tuple) -> list[str]:
    """The keys that are allowed in the place of the last part of `location`, such as ("learning", "discount")."""
    models = [model]
    for part in location[:-1]:
        named = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if named:  # else an index or a free key, which leads to no other model
            models = [inner for annotation in named for inner in _models(annotation)]
    return [key for m in models for key in m.model_fields]


def validate(model: type[Settings], value: Any, where: str) -> Any:
    """Build `model` from plain data; the first fault becomes one line that names the key and what would be right."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        context = first.get("ctx", {})
        key = ".".join(map(str, (*first["loc"], *context.get("place", ()))))
        if first["type"] == "extra_forbidden":
            known = keys_of(model, first["loc"])
            raise RarlError(f"{where}: unknown key {key!r}; {did_you_mean(str(first['loc'][-1]), known)}") from None
        if first["type"] == "missing":
            raise RarlError(f"{where}: key {key!r} is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error" and isinstance(first["input"], str):
            message += _meant(first["input"], context["expected"])
        got = context.get("got", first["input"])
        hint = _number_hint(got)
        place = f"{where}: {key}" if key else where
        # What is wrong with several keys of a mapping names them, and their values where these matter.
        found = "" if first["type"] == "value_error" and isinstance(got, Mapping) else f", got {got!r:.80}{hint}"
        raise RarlError(f"{place}: {message[0].lower() + message[1:]}{found}") from None


def _meant(name: str, expected: str) -> str:
    """The close ones of the names that pydantic expects, as it writes them: "'a', 'b' or 'c'"."""
    hint = did_you_mean(name, re.findall(r"'([^']*)'", expected))
    return f" ({hint})" if hint.startswith("did you mean") else ""


def _number_hint(value: Any) -> str:
    """YAML 1.1 reads 3e-4 as text, which nobody expects."""
    try:
        number = float(value) if isinstance(value, str) and "e" in value.lower() else None
    except ValueError:
        number = None
    return "" if number is None else f" (YAML reads this as text; write {number:f}".rstrip("0") + ")"

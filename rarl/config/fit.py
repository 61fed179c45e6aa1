"""What an environment says about settings: which options there are, and what does not go with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rarl.code_digest import module_of, place_of
from rarl.config.settings import EPISODIC, DatasetSettings, RunSettings
from rarl.config.validate import Settings, validate
from rarl.envs.common import AGENT, VALUES
from rarl.envs.spec import EnvSpec, Source, load, plays, sources_of
from rarl.errors import RarlError, did_you_mean
from rarl.mappings import merge


class NoOptions(Settings):
    """Where there is nothing to be set."""


def with_options(spec: EnvSpec, value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Plain settings of a run, with all options of environment and encoder, given or by default.

    Raises:
      RarlError: there is no such encoder or option, or it cannot have that value.
    """
    agent = value.get("agent")
    if not isinstance(agent, Mapping):  # told by what validates the rest
        return dict(value)
    encoder = agent.get("encoder") or next(iter(spec.encoders))
    if encoder not in spec.encoders:
        raise RarlError(
            f"{where}: agent.encoder = {encoder!r} does not read the observations of {spec.name}; "
            f"{did_you_mean(str(encoder), spec.encoders)}"
        )
    options = {
        "environment_options": (spec.options, value.get("environment_options")),
        "agent.encoder_options": (spec.encoder_options.get(encoder), agent.get("encoder_options")),
    }
    whole = {
        key: validate(NoOptions if model is None else load(model), given or {}, f"{where}: {key}").model_dump()
        for key, (model, given) in options.items()
    }
    more = {"encoder": encoder, "encoder_options": whole["agent.encoder_options"]}
    return {**value, "environment_options": whole["environment_options"], "agent": {**agent, **more}}


def check_run(spec: EnvSpec, s: RunSettings, where: str) -> None:
    """Refuse what does not go with the environment of a run.

    Raises:
      RarlError: it names the key.
    """
    values = s.agent.values
    if values not in VALUES:
        if not module_of(values):
            raise RarlError(f"{where}: agent.values = {values!r}: {did_you_mean(values, VALUES)}")
        try:
            place_of(values)  # importing it would take torch
        except RarlError as error:
            raise RarlError(f"{where}: agent.values = {error}") from None
    told = f"{spec.name} tells what an episode is about by {spec.context!r}, not by the id of its task"
    by_id = [
        (s.agent.task != "hidden", f"agent.task = {s.agent.task!r}"),
        (s.agent.retrieval.process == "oracle", "agent.retrieval.process = 'oracle'"),
        (s.agent.base in EPISODIC, f"agent.base = {s.agent.base!r}"),
        (s.agent.retrieval.pool is not None, "agent.retrieval.pool"),
        (bool(s.held_out), "held_out"),
        (s.online is None and s.agent.core == "none", "agent.core = 'none'"),
    ]
    for has, key in by_id:
        if has and spec.context is not None:
            raise RarlError(f"{where}: {key}: {told}")
    if s.source != "replay":
        source_of(spec, s.source, f"{where}: source")
    if s.plays and not plays(spec):
        raise RarlError(f"{where}: {spec.name} has no simulator: its agents learn from datasets alone")
    if s.learning.masking.weight and spec.tokens is None:
        raise RarlError(f"{where}: learning.masking.weight: {spec.name} does not say what is predicted (`tokens`)")


def source_of(spec: EnvSpec, name: str, where: str) -> Source:
    """A source of an environment's datasets.

    Raises:
      RarlError: there is none of this name.
    """
    sources = sources_of(spec)
    if name not in sources:
        raise RarlError(f"{where}: {spec.name} has no source {name!r}; {did_you_mean(name, sources)}")
    return sources[name]


def dataset_with_options(spec: EnvSpec, s: DatasetSettings, where: str) -> DatasetSettings:
    """Settings of a dataset with all options of its source, given or by default.

    Raises:
      RarlError: there is no such source or option, or its size is not given in the source's unit.
    """
    source = source_of(spec, s.source, f"{where}.source")
    for key in s.options:
        if key not in source.options:
            known = did_you_mean(key, source.options) if source.options else "it has none"
            raise RarlError(f"{where}.options: source {s.source!r} has no option {key!r}; {known}")
    defaults = {key: list(value) if isinstance(value, tuple) else value for key, value in source.options.items()}
    options = merge(defaults, s.options)
    try:
        if source.make == AGENT:
            from rarl.config.player import check_agent  # which needs this module

            check_agent(spec, **options)
        if source.check is not None:
            load(source.check)(**options)
    except RarlError as error:
        raise RarlError(f"{where}.options: {error}") from None
    other = "environment_steps" if source.unit == "episodes" else "episodes"
    if getattr(s, source.unit) is None or getattr(s, other) is not None:
        raise RarlError(f"{where}: the size of source {s.source!r} is given by {source.unit!r}")
    return s.model_copy(update={"options": options})

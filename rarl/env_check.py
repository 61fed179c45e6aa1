"""`rarl env check`: whether an environment's specification holds together, and can be played and learned from.

What is wrong is told as it is found, one line each; playing comes last, since it needs all else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from rarl.config.player import settings_of
from rarl.config.settings import RunSettings
from rarl.envs.content import content_of
from rarl.envs.spec import EnvSpec, check_spec, load, make_vector, plays, sources_of, spec_of
from rarl.envs.vector import VectorEnv
from rarl.errors import RarlError, told_in_one_line

_WORDS = ("expert",)  # values that the normaliser of a score may have in the place of a name
STEPS = 300  # of random play
ENVIRONMENTS = 4


def check_environment(environment: str) -> Iterator[str]:
    """Look at an environment; yields what was found to be in order, one line each.

    Args:
      environment: its name, module:SPEC or file.py:SPEC.

    Raises:
      RarlError: the first thing that is wrong, and what would be right.
    """
    spec = spec_of(environment)
    yield from _fields(spec)
    agent = {"task": "hidden" if spec.context else "observed", "core": "gru"}
    with told_in_one_line(f"{spec.name}: its options"):
        settings = settings_of(environment, spec.tasks[0], 0, {"agent": agent})
    if not plays(spec):
        yield "no simulator: agents learn from datasets, and nothing is rolled out"
    else:
        yield from _playing(spec, settings)
    with told_in_one_line(f"{spec.name}: encoder {settings.agent.encoder!r} cannot read the observations"):
        yield from _network(spec, settings)


def _fields(spec: EnvSpec) -> Iterator[str]:
    check_spec(spec)
    _names(spec.name, spec)
    _names(f"{spec.name}: score", spec.score)
    for key, source in sources_of(spec).items():
        _names(f"{spec.name}: sources[{key!r}]", source)
    yield f"{spec.name}: {len(spec.tasks)} tasks, sources {', '.join(sources_of(spec))}"


def _names(where: str, part: Any) -> None:
    """That all that a part of a specification names is there."""
    for field in fields(part):
        value = getattr(part, field.name)
        if field.type in ("Named", "Named | None") and value is not None and value not in _WORDS:
            _loaded(f"{where}: {field.name}", value)
        elif field.type == "Mapping[str, Named]":
            for key, name in value.items():
                _loaded(f"{where}: {field.name}[{key!r}]", name)


def _loaded(where: str, value: Any) -> Any:
    try:
        return load(value)
    except RarlError as error:
        raise RarlError(f"{where}: {error}") from None


def _playing(spec: EnvSpec, settings: RunSettings) -> Iterator[str]:
    tasks = [spec.tasks[i % len(spec.tasks)] for i in range(ENVIRONMENTS)]

    def made() -> VectorEnv:
        return make_vector(settings, tasks)

    with told_in_one_line(f"{spec.name}: it cannot be made"):
        envs = made()
    if not isinstance(envs, VectorEnv):
        raise RarlError(f"{spec.name}: make_vector gave a {type(envs).__name__}, not a rarl.envs.vector.VectorEnv")
    n_actions = len(envs.actions)
    if spec.n_actions not in (None, n_actions):
        raise RarlError(f"{spec.name}: n_actions = {spec.n_actions}, but the environments have {n_actions}")
    seeds = np.arange(ENVIRONMENTS)
    with told_in_one_line(f"{spec.name}: it cannot be played"):
        played, others = _play(envs, seeds, n_actions, spec), _play(made(), seeds, n_actions, spec)
    observations, rewards, ends = played
    if observations.dtype.kind not in "biuf":
        kind = getattr(envs, "observation_space", None) or f"{observations.dtype} {observations.flat[0]!r:.80}"
        raise RarlError(
            f"{spec.name}: observations are no arrays of numbers but {kind}; "
            "`prepare` must turn each into an array, the space of which is `observation`"
        )
    for what, values in (("observations", observations), ("rewards", rewards)):
        if not np.isfinite(values).all():
            raise RarlError(f"{spec.name}: {what} must be finite, and some are {values[~np.isfinite(values)][0]}")
    same = (np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(played, others, strict=True))
    if not all(same):
        raise RarlError(
            f"{spec.name}: the same seeds and actions gave different episodes: `reset(seed=...)` must fix them"
        )
    if not ends:
        yield (
            f"note: no episode ended in {STEPS} steps: whoever plays one that never ends waits for ever; "
            "it needs a limit (gymnasium.wrappers.TimeLimit)"
        )
    low, high = spec.reward_range
    if rewards.min() < low or rewards.max() > high:
        yield (
            f"note: rewards from {rewards.min():g} to {rewards.max():g} were met; reward_range is ({low:g}, {high:g}), "
            "beyond which predictions of rewards cannot go"
        )
    with told_in_one_line(f"{spec.name}: what its trajectories hold"):
        content = content_of(settings.environment)
    if content is not None:
        if content.observations.dtype in (None, "None"):
            space = getattr(envs, "observation_space", "that environments have")
            raise RarlError(
                f"{spec.name}: the space of observations, {space}, is none of arrays: `prepare` must turn each into an "
                "array, the space of which is `observation`"
            )
        bad = content.observations.first_bad(observations.reshape(-1, *observations.shape[2:]))
        if str(observations.dtype) != content.observations.dtype or bad is not None:
            raise RarlError(
                f"{spec.name}: observations become {observations.dtype} from {observations.min()} to "
                f"{observations.max()}; the space says {content.observations.dtype}, "
                f"{content.observations.range_text(() if bad is None else bad[1:])}"
            )
    if spec.context is not None and envs.context is None:
        raise RarlError(
            f"{spec.name}: context = {spec.context!r}, but the environments tell nothing (`VectorEnv.context`)"
        )
    shape, dtype = observations.shape[2:], observations.dtype
    ended = f"{int(ends)} episodes ended in {STEPS} steps of {ENVIRONMENTS} copies"
    yield f"plays: observations {dtype} {shape}, {n_actions} actions, {ended}"
    with told_in_one_line(f"{spec.name}: it cannot be saved in the middle of an episode and brought back"):
        yield _saved(spec, made, seeds, n_actions)


def _play(envs: VectorEnv, seeds: np.ndarray, n_actions: int, spec: EnvSpec) -> tuple[np.ndarray, np.ndarray, int]:
    """Observations (T, n, ...) and rewards (T, n) of random play, and how many episodes ended."""
    rng = np.random.default_rng(0)
    x, seen, rewards, ended = envs.reset(seeds), [], [], 0
    for t in range(STEPS):
        seen.append(x)
        before = envs.active.copy()
        step = envs.step(rng.integers(n_actions, size=envs.num_envs))
        over = before & (step.terminated | step.truncated)
        if (envs.active & over).any():
            raise RarlError(f"{spec.name}: an environment whose episode ended is still `active`")
        rewards.append(step.rewards)
        x = step.observations
        if over.any():
            ended += int(over.sum())
            x = envs.reset(np.flatnonzero(over) + 100 + t, np.flatnonzero(over))
    return np.stack(seen), np.stack(rewards), ended


def _saved(spec: EnvSpec, made: Callable[[], VectorEnv], seeds: np.ndarray, n_actions: int) -> str:
    """Whether environments come back to where they were."""
    rng = np.random.default_rng(1)
    envs = made()
    envs.reset(seeds)
    for _ in range(7):
        envs.step(rng.integers(n_actions, size=ENVIRONMENTS))
    try:
        state = envs.state_dict()
    except RarlError:
        return "note: cannot be saved in the middle of an episode: agents that learn while they play cannot be resumed"
    other = made()
    other.load_state_dict(state)
    for _ in range(5):
        actions = rng.integers(n_actions, size=ENVIRONMENTS)
        if not np.array_equal(envs.step(actions).observations, other.step(actions).observations):
            raise RarlError(f"{spec.name}: `load_state_dict` did not bring the environments back to where they were")
    return "can be saved and brought back in the middle of an episode"


def _network(spec: EnvSpec, settings: RunSettings) -> Iterator[str]:
    import torch

    from rarl.agents.build import build_network
    from rarl.envs.space import number_of_actions, observation_space

    n_actions = number_of_actions(settings)
    network = build_network(settings, n_actions)
    if plays(spec):
        envs = make_vector(settings, [spec.tasks[0]] * 3)
        x, context = envs.reset(np.arange(3)), envs.context
    else:
        space = observation_space(settings)
        x, context = np.stack([np.asarray(space.sample(), dtype=space.dtype) for _ in range(3)]), None
    context = np.zeros(3, dtype=np.int64) if context is None else context.astype(np.int64)
    with torch.no_grad():
        s = network.encoder(torch.from_numpy(x)[None, :, None], torch.from_numpy(context)[None, :, None])
    if s.shape != (1, 3, 1, settings.agent.d_s):
        raise RarlError(
            f"{spec.name}: encoder {settings.agent.encoder!r} gave {tuple(s.shape)} for observations (1, 3, 1, ...); "
            f"it must keep the leading axes and give d_s = {settings.agent.d_s} numbers"
        )
    if not s.isfinite().all():
        raise RarlError(f"{spec.name}: encoder {settings.agent.encoder!r} gave numbers that are not finite")
    yield f"encoder {settings.agent.encoder!r}: reads them"

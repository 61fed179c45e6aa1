"""Configuration: what is merged into a run, what its digest depends on, and that every fault is one line that helps."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from rarl.config.files import SCALES
from rarl.config.scale import Scale, default_scale
from rarl.config.settings import EPISODIC, RunSettings
from rarl.envs.gridroboman.tasks import EPISODE_STEPS, TASKS
from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError
from rarl.mappings import merge
from rarl.runs.search import TUNING_SEEDS
from rarl.workflow.rules import scale_of
from tests import tiny_atari, tiny_babyai, tiny_project, tiny_relevance

ROOT = Path(__file__).parents[2]
SHIPPED = [name for name in SCALES if (ROOT / "config" / f"{name}.yaml").is_file()]


def write(root: Path, scale: Any = tiny_project.SCALE, experiment: Any = tiny_project.EXPERIMENT) -> None:
    """The files as they are, not over others' values; strings as they stand."""
    folder = root / "config" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    for path, value in ((root / "config" / "tiny.yaml", scale), (folder / "gridroboman.yaml", experiment)):
        path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy with `new` at the dotted path; `...` removes it. Numbers in the path are list positions or keys."""
    value = copy.deepcopy(value)
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place = value
    for part in parents:
        place = place[part]
    if new is ...:
        del place[last]
    else:
        place[last] = new
    return value


def error_of(root: Path, scale: Any = tiny_project.SCALE, experiment: Any = tiny_project.EXPERIMENT) -> str:
    write(root, scale, experiment)
    with pytest.raises(RarlError) as caught:
        Scale("tiny", root)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


IN = "experiments.gridroboman."
ORACLE = "variants.oracle."
SCALE_FAULTS = [
    # unknown keys, with the one that was meant
    ("descriptoin", "x", ["tiny.yaml", "unknown key 'descriptoin'", "'description'"]),
    (IN + "task_sets.10.variant", ["dqn"], ["tiny.yaml", "task_sets.10.variant", "'variants'"]),
    (IN + "seed", [1], ["tiny.yaml", "gridroboman.seed", "'seeds'"]),
    ("datasets.gridroboman.0.episode", 3, ["tiny.yaml", "datasets.gridroboman.0.episode", "'episodes'"]),
    (IN + "settings.learning.learning_rat", 0.1, ["tiny.yaml", "learning.learning_rat", "'learning_rate'"]),
    (IN + "settings.agents", {"d_s": 4}, ["tiny.yaml", "unknown key 'agents'", "'agent'"]),
    (IN + "task_sets.10.settings", {"evaluation": {"every": 3}}, ["tiny.yaml", "evaluation.every", "'every_updates'"]),
    # wrong types
    ("allows_verdicts", "maybe", ["tiny.yaml", "allows_verdicts", "boolean", "'maybe'"]),
    ("seeds", 3, ["tiny.yaml", "seeds", "list", "3"]),
    ("seeds", ["a"], ["tiny.yaml", "seeds.0", "integer", "'a'"]),
    ("about_core_minutes", "long", ["tiny.yaml", "about_core_minutes", "number", "'long'"]),
    (IN + "settings.updates", 10.5, ["tiny.yaml", "updates", "integer", "10.5"]),
    (IN + "settings.updates", "10", ["tiny.yaml", "updates", "integer", "'10'"]),
    (IN + "settings.updates", True, ["tiny.yaml", "updates", "integer", "True"]),
    (IN + "settings.learning", {"learning_rate": "fast"}, ["learning.learning_rate", "number", "'fast'"]),
    (IN + "settings.learning", {"learning_rate": "3e-4"}, ["learning.learning_rate", "number", "write 0.0003)"]),
    (IN + "settings.agent", 5, ["tiny.yaml", "agent", "5"]),
    (IN + "task_sets", {"ten": {"variants": ["dqn"]}}, ["tiny.yaml", "task_sets.ten", "'tasks'"]),
    # missing
    ("description", ..., ["tiny.yaml", "'description' is missing"]),
    ("experiments.gridroboman.task_sets", ..., ["tiny.yaml", "task_sets", "missing"]),
    ("datasets.gridroboman.0.source", ..., ["tiny.yaml", "source", "missing"]),
    ("datasets.gridroboman.0.episodes", ..., ["tiny.yaml", "source 'planner' is given by 'episodes'"]),
    # bad values
    ("seeds", [], ["tiny.yaml", "seeds", "at least 1"]),
    ("about_core_minutes", 0, ["tiny.yaml", "about_core_minutes", "greater than 0"]),
    (IN + "settings.updates", 0, ["updates", "greater than or equal to 1", "0"]),
    (IN + "settings.learning", {"discount": 1.2}, ["learning.discount", "less than or equal to 1", "1.2"]),
    (IN + "settings.evaluation.every_updates", 0, ["evaluation.every_updates", "1"]),
    (IN + "settings.agent", {"fusion": "sum"}, ["agent.fusion", "'film'", "'gru'", "'add'", "'sum'"]),
    (IN + "settings.agent", {"retrieval": {"source": "al"}}, ["agent.retrieval.source", "'own'", "'random'", "'al'"]),
    (IN + "settings.agent", {"retrieval": {"source": "all"}}, ["retrieval.source = 'all'", "a core", "'random'"]),
    (IN + "settings.agent", {"encoder": "babyai"}, ["agent.encoder = 'babyai'", "gridroboman"]),
    (IN + "variant_settings", {"dqm": {}}, ["tiny.yaml", "variant_settings", "unknown variant 'dqm'", "'dqn'"]),
    (IN + "settings.source", "planer", ["source", "'planner'", "'planer'"]),
    ("datasets.gridroboman.0.source", "bot", ["datasets.gridroboman.0.source", "'planner'", "'dqn'", "'bot'"]),
    (
        "datasets.gridroboman",
        [{"source": "rdqn", "environment_steps": 100}],
        ["datasets.gridroboman.0.source: gridroboman has no source 'rdqn'; did you mean 'dqn'"],
    ),
    (
        "datasets.babyai",
        [{"source": "dqn", "environment_steps": 100}],
        ["datasets.babyai.0.source: babyai has no source 'dqn'; did you mean 'rdqn'"],
    ),
    ("datasets.babyai", [{"source": "rdqn", "episodes": 100}], ["'rdqn' is given by 'environment_steps'"]),
    (
        "datasets.babyai",
        [{"source": "bot", "episodes": 9, "environment_steps": 100}],
        ["datasets.babyai.0: the size of source 'bot' is given by 'episodes'"],
    ),
    (
        "datasets.gridroboman.0.options",
        {"noise": [0]},
        ["datasets.gridroboman.0.options: source 'planner' has no option 'noise'; did you mean 'noise_percent'"],
    ),
    (
        "datasets.babyai",
        [{"source": "random", "episodes": 100, "options": {"noise_percent": [0]}}],
        ["datasets.babyai.0.options: source 'random' has no option 'noise_percent'; it has none"],
    ),
    ("datasets.babyai", [{"source": "rdqn", "environment_steps": 0}], ["datasets.babyai.0.environment_steps", "1"]),
    (
        "datasets.gridroboman",
        [{"source": "dqn", "environment_steps": 100, "options": {"settings": 5}}],
        ["tiny.yaml: datasets.gridroboman.0.options: settings", "got 5"],
    ),
    (
        "datasets.babyai",
        [{"source": "agent", "environment_steps": 100, "options": {"random_share": "foo"}}],
        ["tiny.yaml: datasets.babyai.0.options: random_share='foo'", "between 0 and 1"],
    ),
    (
        "datasets.babyai",
        [{"source": "rdqn", "environment_steps": 100, "options": {"settings": {"agent": {"d_sx": 3}}}}],
        ["tiny.yaml: datasets.babyai.0.options: ", "unknown key 'agent.d_sx'", "'d_s'"],
    ),
    ("datasets.gridroboman.0.seed", -1, ["datasets.gridroboman.0.seed", "0"]),
    # numbers that no setting can mean
    (
        IN + "settings.learning",
        {"learning_rate": float("inf")},
        ["tiny.yaml", "learning.learning_rate", "inf"],
    ),
    (IN + "settings.learning", {"huber_delta": float("nan")}, ["settings.learning.huber_delta: must be", "finite"]),
    (IN + "settings.updates", 10**23, ["tiny.yaml", "settings.updates: must be at most 2^53", "got 1000000000"]),
    (IN + "settings.evaluation.board_seed", 2**53 + 1, ["settings.evaluation.board_seed", "at most 2^53"]),
    (IN + "settings.updates", -(10**23), ["settings.updates", "2^53"]),
    ("about_core_minutes", float("inf"), ["tiny.yaml: about_core_minutes", "finite", "got inf"]),
    ("costs", {"seconds_per_variant": float("nan")}, ["costs.seconds_per_variant", "finite", "got nan"]),
    ("datasets.gridroboman.0.episodes", 10**20, ["datasets.gridroboman.0.episodes", "at most 2^53"]),
    ("seeds", [10**30], ["tiny.yaml", "seeds.0", "at most 2^53"]),
    # names that are paths
    ("experiments", {"../gridroboman": {"task_sets": {}}}, ["tiny.yaml: experiments", "not a path, got '../gridr"]),
    (IN + "task_sets", {"../../x": {"tasks": 10, "variants": ["dqn"]}}, ["task_sets", "not a path", "got '../../x'"]),
    (IN + "task_sets", {"a b": {"tasks": 10, "variants": ["dqn"]}}, ["task_sets", "a name of letters", "'a b'"]),
    # one name for two
    (
        IN + "task_sets",
        {10: {"variants": ["dqn"]}, "10-tasks": {"tasks": 10, "variants": ["dqn"]}},
        ["tiny.yaml", "gridroboman/10-tasks/dqn/seed-0 is planned twice"],
    ),
    # unknown names
    (IN + "task_sets.15", {"variants": ["dqn"]}, ["tiny.yaml", "task_sets.15", "10, 20, 30"]),
    (IN + "task_sets.10.variants", ["dqm"], ["tiny.yaml", "unknown variant 'dqm'", "'dqn'"]),
    (IN + "task_sets.10.probes", ["ra-dqm"], ["tiny.yaml", "unknown variant 'ra-dqm'", "'ra-dqn'"]),
    ("experiments.gridrobo", {"task_sets": {}}, ["tiny.yaml", "unknown experiment 'gridrobo'", "'gridroboman'"]),
    ("datasets.gridroboman.0.tasks", ["lift rad"], ["tiny.yaml", "unknown task 'lift rad'", "'lift red'"]),
    ("datasets.gridworld", [], ["tiny.yaml", "datasets.gridworld", "'gridroboman'"]),
    # values that do not go together
    (IN + "settings.agent", {"retrieval": {"k_traj": 7}}, ["agent.retrieval", "k_traj = 7", "n_traj = 6"]),
    (IN + "settings.agent", {"retrieval": {"slot_heads": 3}}, ["agent.retrieval", "d_m = 8", "slot_heads = 3"]),
    (
        IN + "settings.learning",
        {"target_rate": 0.1},
        ["learning", "one of target_period_updates and target_rate"],
    ),
    (IN + "settings.learning", {"target_period_updates": None}, ["learning", "one of target_period_updates"]),
    (
        "datasets.gridroboman.0.tasks",
        ["touch red"],
        ["tiny.yaml", "gridroboman/10-tasks/dqn/seed-0", "gridroboman/planner/touch-green"],
    ),
    (IN + "settings.source", "dqn", ["tiny.yaml", "needs dataset gridroboman/dqn/touch-red"]),
]


POOL = {"trajectories": 10, "relevant": [0.5]}
POOL_FAULTS = [
    ({"pool": POOL, "source": "random"}, "agent.retrieval.pool goes with source = 'own'"),
    ({"pool": POOL, "fresh": False}, "agent.retrieval.pool goes with source = 'own', fresh = true"),
    ({"pool": POOL | {"trajectories": 5}}, "agent.retrieval.pool.trajectories must be n_traj = 6 at least"),
    ({"pool": POOL | {"relevant": []}}, "agent.retrieval.pool.relevant"),
    ({"pool": POOL | {"relevant": [0.0]}}, "agent.retrieval.pool.relevant.0"),
    ({"pool": POOL | {"relevant": [0.5, 0.5]}}, "0.5 stands there twice"),
    ({"pool": {"trajectories": 40, "relevant": [0.5]}}, "agent.retrieval.pool takes 20 trajectories of gridroboman/"),
    ({"pool": POOL, "propose": "index"}, "agent.retrieval.index: belongs to propose = 'index'"),
    ({"pool": POOL, "index": {}}, "agent.retrieval.index: belongs to propose = 'index'"),
    ({"propose": "index", "index": {}}, "agent.retrieval.index and relevance need a pool"),
    ({"relevance": 0.1}, "agent.retrieval.index and relevance need a pool"),
    ({"pool": POOL, "propose": "index", "index": {"share": 1.5}}, "agent.retrieval.index.share"),
]


@pytest.mark.parametrize(("retrieval", "expected"), POOL_FAULTS)
def test_a_fault_in_retrieval_datasets_is_one_line_that_helps(tmp_path, retrieval, expected):
    experiment = changed(
        tiny_project.EXPERIMENT, "variants.ra-dqn.settings.agent.retrieval", {"process": "slots"} | retrieval
    )
    assert expected in error_of(tmp_path, experiment=experiment)


def test_keys_that_serve_all_tasks_need_an_encoder_that_is_told_none(tmp_path):
    retrieval = {"process": "slots", "pool": POOL, "propose": "index", "index": {}}
    experiment = changed(tiny_project.EXPERIMENT, "variants.ra-dqn-told.settings.agent.retrieval", retrieval)
    assert "agent.task must be 'hidden' or 'query'" in error_of(tmp_path, experiment=experiment)


@pytest.mark.parametrize(("path", "value", "expected"), SCALE_FAULTS)
def test_a_fault_in_a_scale_file_is_one_line_that_helps(tmp_path, path, value, expected):
    message = error_of(tmp_path, scale=changed(tiny_project.SCALE, path, value))
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        # A decay summary has four time scales: its width must be a multiple of four.
        (IN + "settings.agent", {"retrieval": {"summariser": "decay", "d_h": 10}}, ["d_h", "10", "4"]),
        # Two kinds of datasets with the same place.
        (
            "datasets.gridroboman",
            [
                {"source": "planner", "tasks": "all", "episodes": 16},
                {"source": "planner", "tasks": ["touch red"], "episodes": 32},
            ],
            ["tiny.yaml", "gridroboman/planner/touch-red"],
        ),
        # A probe of a variant that no run has.
        (IN + "task_sets.10", {"variants": ["dqn"], "probes": ["ra-dqn"]}, ["tiny.yaml", "probes", "ra-dqn"]),
        # Twice the same seed is not two seeds.
        ("seeds", [0, 0], ["tiny.yaml", "seeds"]),
        (IN + "seeds", [1, 2, 1], ["tiny.yaml", "seeds"]),
        (IN + "task_sets.10.variants", ["dqn", "dqn"], ["tiny.yaml", "variants", "dqn"]),
        # Seeds from 100 on are for tuning.
        ("seeds", [0, 100], ["tiny.yaml", "seeds", "100"]),
        # Less than no noise, more than nothing but noise.
        ("datasets.gridroboman.0.options", {"noise_percent": [0, 150]}, ["tiny.yaml", "noise_percent", "150"]),
        ("datasets.gridroboman.0.options", {"noise_percent": []}, ["tiny.yaml", "noise_percent"]),
        ("datasets.gridroboman.0.options", {"noise_percent": 20}, ["tiny.yaml", "noise_percent", "20"]),
        ("datasets.gridroboman.0.options", {"noise_percent": ["a"]}, ["tiny.yaml", "noise_percent", "'a'"]),
        # A retrieval batch larger than its dataset.
        (IN + "settings.agent", {"retrieval": {"n_traj": 17}}, ["n_traj", "17", "16"]),
    ],
)
def test_values_that_cannot_work_are_refused_before_anything_is_computed(tmp_path, path, value, expected):
    message = error_of(tmp_path, scale=changed(tiny_project.SCALE, path, value))
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("titel", "x", ["gridroboman.yaml", "unknown key 'titel'", "'title'"]),
        ("title", ..., ["gridroboman.yaml", "'title' is missing"]),
        ("environment", "doom", ["gridroboman.yaml", "environment", "'gridroboman'", "'doom'"]),
        ("variants", ["dqn"], ["gridroboman.yaml", "variants", "dictionary"]),
        ("base.agent", ..., ["gridroboman.yaml", "variant"]),
        ("base.agent.base", "dqm", ["gridroboman.yaml", "agent.base", "'dqn'", "'dqm'"]),
        ("base.source", ..., ["gridroboman.yaml", "tiny.yaml", "'source' is missing"]),
        (
            "variants.oracle.settings",
            {"agent": {"retrieval": {"process": "orakle"}}},
            ["variant 'oracle'", "agent.retrieval.process", "'oracle'", "'orakle'"],
        ),
        (
            "variants.random.settings",
            {"agent": {"retrival": {}}},
            ["variant 'random'", "agent.retrival", "'retrieval'"],
        ),
        ("base.agent.retrieval.k_state", 3, ["agent.retrieval.k_state", "'k_states'"]),
        ("base.agent.d_s", 2**60, ["gridroboman.yaml: base.agent.d_s: must be at most 2^53"]),
        ("variants.dqn.settings", {"learning": {"discount": float("-inf")}}, ["learning.discount", "got -inf"]),
        ("variants.dqn", {"agent": {}}, ["gridroboman.yaml: unknown key 'variants.dqn.agent'"]),
        ("variants.dqn.lable", "x", ["unknown key 'variants.dqn.lable'", "'label'"]),
        (ORACLE + "relative_to", ["ra-dqm"], ["variants.oracle.relative_to: unknown variant", "'ra-dqn'"]),
        (ORACLE + "sweep", "slots", ["variants.oracle.sweep: unknown sweep 'slots'"]),
        (ORACLE + "same_as", "dqn", ["variants.oracle.same_as: unknown variant 'dqn'"]),
        ("full_variant", "ra-dqm", ["gridroboman.yaml: full_variant: unknown variant 'ra-dqm'", "'ra-dqn'"]),
        ("beside", ["dqn"], ["gridroboman.yaml: beside: unknown variant 'dqn'"]),
        ("variants", {"a/b": {}}, ["gridroboman.yaml: variants: must be a name", "got 'a/b'"]),
        ("extends", "../smoke", ["gridroboman.yaml: extends: must be a name", "got '../smoke'"]),
    ],
)
def test_a_fault_in_an_experiment_file_is_one_line_that_helps(tmp_path, path, value, expected):
    message = error_of(tmp_path, experiment=changed(tiny_project.EXPERIMENT, path, value))
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learning": {"burn_in": 8}}, ["learning.burn_in = 8", "sequence_steps"]),
        ({"learning": {"burn_in": 9}}, ["learning.burn_in = 9", "sequence_steps"]),
        ({"online": {"period_steps": 6}}, ["online.period_steps", "learning.sequence_steps - learning.burn_in"]),
        ({"online": {"start_sequences": 61}}, ["online.start_sequences", "online.capacity_sequences"]),
        ({"online": None}, ["source = 'replay'", "`online`"]),
        ({"online": {"actor": 2}}, ["online.actor", "'actors'"]),
        ({"environment_options": {"sticky": 1.5}}, ["environment_options: sticky", "1.5"]),
        ({"environment_options": 5}, ["variant 'r2d2': environment_options: input should be", "got 5"]),
        ({"environment_options": {"sticki": 0.5}}, ["environment_options: unknown key 'sticki'", "'sticky'"]),
        ({"agent": {"encoder_options": {"recompute": -1}}}, ["agent.encoder_options: recompute", "-1"]),
        ({"agent": {"encoder_options": {"blocks": 2}}}, ["agent.encoder_options: unknown key 'blocks'", "'recompute'"]),
        ({"online": {"retrieve_by": "return"}}, ["online.retrieve_by", "'priority'", "'return'"]),
        ({"source": "planner"}, ["source = 'planner'", "'replay' goes with the settings `online`"]),
        (
            {"source": "planner", "online": None, "learning": {"targets": "n-step", "rescale_epsilon": None}},
            ["source: atari has no source 'planner'; known: 'random', 'agent', 'minari'"],
        ),
        ({"episodes": 5}, ["episodes: an agent that learns while it plays has no dataset"]),
        ({"learning": {"conservative": 0.1}}, ["learning.conservative"]),
        ({"learning": {"targets": "retrace"}}, ["learning.targets", "'peng'", "'retrace'"]),
        ({"agent": {"encoder": "babyai"}}, ["agent.encoder = 'babyai'", "atari"]),
        (
            {"agent": {"retrieval": {"process": "slots", "source": "random"}}},
            ["agent.retrieval.source = 'random'", "'own'", "replay"],
        ),
        (
            {"agent": {"retrieval": {"process": "slots", "source": "all"}}},
            ["agent.retrieval.source = 'all'", "'own'", "replay"],
        ),
        (
            {"agent": {"retrieval": {"process": "slots", "select_by": "return"}}},
            ["agent.retrieval.select_by", "'attention'"],
        ),
        ({"agent": {"retrieval": {"process": "slots", "fresh": False}}}, ["agent.retrieval.fresh"]),
        # 3 to learn from with 2 neighbours on either side, and 46 to retrieve from
        ({"agent": {"retrieval": {"process": "slots", "n_traj": 46}}}, ["online.capacity_sequences = 60", "61"]),
    ],
)
def test_a_fault_in_the_settings_of_an_online_agent_is_one_line_that_names_the_key(tmp_path, changes, expected):
    tiny_atari.write_config(tmp_path)
    with pytest.raises(RarlError) as caught:
        tiny_atari.run_of(tmp_path, "r2d2", changes=changes)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message, message


EPISODIC_FAULTS = [
    ("nec", {"episodic": None}, "episodic: agent.base = 'nec' needs these settings"),
    ("dqn", {"episodic": {}}, "episodic: agent.base = 'dqn' has no use for these settings"),
    ("nec", {"episodic": {"d_key": None}}, "episodic.d_key: nec needs a width of keys"),
    ("mfec", {"episodic": {"epsilon_to_steps": 100}}, "epsilon_to_steps = 100 must exceed epsilon_from_steps = 100"),
    ("mfec", {"episodic": {"neighbors": 3}}, "'neighbours'"),
    ("mfec", {"agent": {"task": "query"}}, "agent.task = 'query'"),
    ("nec", {"learning": {"masking": {"weight": 0.1}}}, "learning.masking is not for episodic control"),
]


@pytest.mark.parametrize(("variant", "changes", "expected"), EPISODIC_FAULTS)
def test_a_fault_in_the_settings_of_episodic_control_is_one_line(tiny_root, variant, changes, expected):
    with pytest.raises(RarlError) as caught:
        tiny_project.run_of(tiny_root, variant, changes=changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_episodic_control_has_no_past_and_no_probe(tmp_path):
    tiny_atari.write_config(tmp_path)
    with pytest.raises(RarlError, match=r"agent\.core = 'gru': episodic control has none"):
        tiny_atari.run_of(tmp_path, "nec", changes={"agent": {"core": "gru"}})
    games = {"experiments": {"atari": {"task_sets": {"pong": {"variants": ["mfec"], "probes": ["mfec"]}}}}}
    tiny_atari.write_config(tmp_path, games)
    with pytest.raises(RarlError, match="probes: variant 'mfec' is episodic control"):
        Scale("tiny", tmp_path)


def test_an_agent_plays_one_game(tmp_path):
    games = {"experiments": {"atari": {"task_sets": {"pong": {"tasks": ["pong", "boxing"]}}}}}
    tiny_atari.write_config(tmp_path, games)
    with pytest.raises(RarlError, match="tasks: an agent that learns while it plays has one task, not 2"):
        Scale("tiny", tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"online": {}}, ["source = 'planner'", "`online`"]),
        ({"source": "replay"}, ["source = 'replay'", "`online`"]),
        ({"learning": {"targets": "peng"}}, ["learning.targets", "while they play"]),
        ({"learning": {"rescale_epsilon": 0.001}}, ["learning.rescale_epsilon", "while they play"]),
        ({"environment_options": {"sticky": 0.25}}, ["environment_options: unknown key 'sticky'"]),
        ({"agent": {"encoder_options": {"recompute": 2}}}, ["agent.encoder_options: unknown key 'recompute'"]),
    ],
)
def test_settings_of_online_agents_are_refused_elsewhere(tiny_root, changes, expected):
    with pytest.raises(RarlError) as caught:
        tiny_project.run_of(tiny_root, "ra-dqn", changes=changes)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"agent": {"task": "observed"}}, "agent.task = 'observed'"),
        ({"agent": {"retrieval": {"process": "oracle"}}}, "agent.retrieval.process = 'oracle'"),
        ({"agent": {"core": "none"}}, "agent.core = 'none'"),
        (
            {"agent": {"base": "mfec", "core": "none", "retrieval": {"process": "none"}}, "episodic": {}},
            "agent.base = 'mfec'",
        ),
        ({"agent": {"core": "none"}, "held_out": ["OpenDoor"]}, "held_out"),
        ({"agent": {"core": "none", "retrieval": {"pool": POOL}}}, "agent.retrieval.pool"),
    ],
)
def test_what_knows_tasks_by_their_ids_is_refused_where_a_mission_is_told(tmp_path, changes, key):
    tiny_babyai.write_config(tmp_path)
    with pytest.raises(RarlError) as caught:
        tiny_babyai.run_of(tmp_path, "own", changes=changes)
    assert f"{key}: babyai tells what an episode is about by 'mission', not by the id of its task" in str(caught.value)


def test_who_learns_while_it_plays_may_be_told_a_mission(tmp_path):
    one = {"task_sets": {tiny_babyai.TASK_SET: {"tasks": tiny_babyai.LEVELS[:1], "probes": []}}}
    tiny_babyai.write_config(tmp_path, {"experiments": {"babyai": one}})
    online = {"source": "replay", "episodes": None, "online": tiny_atari.EXPERIMENT["base"]["online"]}
    for changes in (online, merge(online, {"agent": {"retrieval": {"process": "slots", "select_by": "none"}}})):
        assert tiny_babyai.run_of(tmp_path, "rdqn", changes=changes).settings.online


def test_agents_with_a_core_learn_boards_too(tiny_root):
    """An environment says what it cannot do; all else goes."""
    sequences = {"batch_sequences": 20, "sequence_steps": 6}
    for more in ({"core": "gru"}, {"core": "gru", "retrieval": {"source": "all"}}, {"core": "gru", "task": "observed"}):
        run = tiny_project.run_of(tiny_root, "ra-dqn", changes={"agent": more, "learning": sequences})
        assert run.settings.agent.core == "gru"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: [0\n", "not valid YAML"),
        ("a: 1\n\tb: 2\n", "not valid YAML"),
        ("", "dictionary"),
        ("- 1\n", "dictionary"),
        ("just text\n", "dictionary"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_settings(tmp_path, text, expected):
    for message, name in (
        (error_of(tmp_path, scale=text), "tiny"),
        (error_of(tmp_path, experiment=text), "gridroboman"),
    ):
        assert f"{name}.yaml" in message
        assert expected in message


def test_bytes_that_are_no_text(tmp_path):
    write(tmp_path)
    (tmp_path / "config" / "tiny.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(RarlError, match=r"tiny\.yaml: not valid YAML"):
        Scale("tiny", tmp_path)


def test_an_unknown_scale_is_told_with_those_there_are(tmp_path):
    write(tmp_path)
    with pytest.raises(RarlError, match=r"config/tinny\.yaml: no such scale; did you mean 'tiny'\?"):
        Scale("tinny", tmp_path)
    with pytest.raises(RarlError, match="no such scale; known: 'tiny'"):
        Scale("laptop", tmp_path)
    with pytest.raises(RarlError, match="run this in the project's folder"):
        Scale("laptop", tmp_path / "elsewhere")


def test_what_another_scale_plans_is_told_with_its_name(tmp_path):
    write(tmp_path)
    path = tmp_path / "config" / "small.yaml"
    path.write_text(yaml.safe_dump(tiny_project.SCALE | {"seeds": [7]}))
    (planned,) = {run for run in Scale("small", tmp_path).runs if run.endswith("dqn/seed-7") and "/dqn/" in run}
    with pytest.raises(RarlError, match="scale 'small' has: --scale small"):
        Scale("tiny", tmp_path).find_run(planned)


def test_a_scale_need_not_say_how_long_it_takes_nor_what_it_is_for(tmp_path):
    write(tmp_path, {k: v for k, v in tiny_project.SCALE.items() if k not in ("about_core_minutes", "allows_verdicts")})
    scale = Scale("tiny", tmp_path)
    assert not scale.settings.allows_verdicts
    assert scale.settings.about_core_minutes is None


def test_tuning_seeds_lie_between_seeds_that_are_reported(tmp_path):
    write(tmp_path, tiny_project.SCALE | {"seeds": [99, 1000]})
    assert {run.settings.seed for run in Scale("tiny", tmp_path).runs.values()} == {99, 1000}
    for seed in (TUNING_SEEDS[0], TUNING_SEEDS[-1]):
        assert f"seed {seed} cannot be reported" in error_of(tmp_path, scale=tiny_project.SCALE | {"seeds": [seed]})


@pytest.mark.parametrize("name", ["../config/tiny", "config/tiny", "/etc/passwd", "..", "", ".hidden", "a\nb", "tiny/"])
def test_a_scale_is_a_name_and_not_a_path(tmp_path, name):
    write(tmp_path)
    with pytest.raises(RarlError, match=r"scale '.*': must be a name of letters"):
        Scale(name, tmp_path)
    with pytest.raises(RarlError, match="must be a name of letters"):
        scale_of({"scale": name}, tmp_path)


def test_other_files_of_the_folder_are_no_scales(tmp_path):
    write(tmp_path)
    for name in ("config", "claims"):
        (tmp_path / "config" / f"{name}.yaml").write_text("scale: tiny\n")
        with pytest.raises(RarlError, match=f"{name}.yaml: no such scale; known: 'tiny'"):
            Scale(name, tmp_path)


def test_a_key_that_stands_twice_is_told_with_its_line(tmp_path):
    text = yaml.safe_dump(tiny_project.SCALE, sort_keys=False)
    assert "tiny.yaml, line" in error_of(tmp_path, scale=text + "allows_verdicts: true\n")
    text = yaml.safe_dump(tiny_project.EXPERIMENT, sort_keys=False)
    assert "key 'title' stands there twice, first in line 2" in error_of(tmp_path, experiment=text + "title: x\n")
    write(tmp_path)
    (tmp_path / "config" / "config.yaml").write_text("scale: tiny\nscale: smoke\n")
    with pytest.raises(RarlError, match=r"config\.yaml, line 2: .*'scale' stands there twice"):
        default_scale(tmp_path)


def test_unknown_runs_and_datasets_are_told_with_close_ones(tiny_root):
    scale = Scale("tiny", tiny_root)
    with pytest.raises(RarlError, match=r"no run 'gridroboman/10-tasks/dqn/seed-1'.*'gridroboman/10-tasks/dqn/seed-0'"):
        scale.find_run("gridroboman/10-tasks/dqn/seed-1")
    with pytest.raises(RarlError, match=r"no dataset 'gridroboman/planner/lift-rad'.*'gridroboman/planner/lift-red'"):
        scale.find_dataset("gridroboman/planner/lift-rad")
    assert scale.find_run("gridroboman/10-tasks/dqn/seed-0").id == "gridroboman/10-tasks/dqn/seed-0"
    assert scale.find_dataset("gridroboman/planner/lift-red").task == "lift red"


@pytest.mark.parametrize("text", ["scale: tiny\nmore: 1\n", "tiny\n", "", "scales: tiny\n", "- scale\n"])
def test_the_default_scales_file_holds_one_key(tmp_path, text):
    write(tmp_path)
    (tmp_path / "config" / "config.yaml").write_text(text)
    with pytest.raises(RarlError, match=r"config\.yaml: must hold one key, 'scale'"):
        default_scale(tmp_path)


@pytest.mark.parametrize("value", ["5", "null", "[tiny]"])
def test_a_default_scale_that_is_no_name_is_told(tmp_path, value):
    write(tmp_path)
    (tmp_path / "config" / "config.yaml").write_text(f"scale: {value}\n")
    with pytest.raises(RarlError) as caught:
        Scale(default_scale(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_default_scale(tmp_path):
    tiny_project.write_config(tmp_path)
    assert default_scale(tmp_path) == "tiny"
    (tmp_path / "config" / "config.yaml").unlink()
    with pytest.raises(RarlError, match=r"config\.yaml: no such file"):
        default_scale(tmp_path)


# -------------------------------------------------------------------------------------------------------------- merging


def test_merging_goes_mapping_by_mapping():
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 1}}
    change = {"a": {"c": {"d": 3, "h": 4}}, "e": [3], "f": None, "i": {}}
    kept = copy.deepcopy(base)
    assert merge(base, change) == {"a": {"b": 1, "c": {"d": 3, "h": 4}}, "e": [3], "f": None, "i": {}}
    assert base == kept
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


def test_later_places_win(tmp_path):
    """Base, scale, task set, variant, changes of the search: in that order; defaults where nobody says anything."""
    d_e = [("base", 11), ("scale", 12), ("set", 13), ("variant", 14), ("changes", 15)]
    for last in range(6):
        said = dict(d_e[:last])
        places = {name: {"agent": {"retrieval": {"d_e": value}}} for name, value in said.items()}
        base = copy.deepcopy(tiny_project.EXPERIMENT)
        del base["base"]["agent"]["retrieval"]["d_e"]
        experiment = merge(
            base, {"base": places.get("base", {}), "variants": {"ra-dqn": {"settings": places.get("variant", {})}}}
        )
        scale = copy.deepcopy(tiny_project.SCALE)
        here = scale["experiments"]["gridroboman"]
        here["settings"] = merge(here["settings"], places.get("scale", {}))
        here["task_sets"][10]["settings"] = places.get("set", {})
        write(tmp_path, scale, experiment)
        found = Scale("tiny", tmp_path).run("gridroboman", 10, "ra-dqn", 0, places.get("changes")).settings
        assert found.agent.retrieval.d_e == (d_e[last - 1][1] if last else 32)
        assert found.agent.retrieval.d_m == 8  # a neighbour of what was changed
        assert found.updates == 12


def test_a_task_sets_settings_are_its_own(tmp_path):
    scale = copy.deepcopy(tiny_project.SCALE)
    scale["experiments"]["gridroboman"]["task_sets"] = {
        10: {"variants": ["dqn"], "settings": {"updates": 7}},
        20: {"variants": ["dqn"]},
    }
    write(tmp_path, scale)
    runs = Scale("tiny", tmp_path).runs
    assert runs["gridroboman/10-tasks/dqn/seed-0"].settings.updates == 7
    assert runs["gridroboman/20-tasks/dqn/seed-0"].settings.updates == 12


def test_ids_tasks_and_datasets_of_runs(tmp_path):
    scale = copy.deepcopy(tiny_project.SCALE)
    scale["experiments"]["gridroboman"]["seeds"] = [3, 5]
    scale["experiments"]["gridroboman"]["task_sets"] = {
        10: {"variants": ["dqn", "ra-dqn"], "probes": ["ra-dqn"]},
        30: {"variants": ["dqn"]},
    }
    write(tmp_path, scale)
    tiny = Scale("tiny", tmp_path)
    assert list(tiny.runs) == [
        "gridroboman/10-tasks/dqn/seed-3",
        "gridroboman/10-tasks/dqn/seed-5",
        "gridroboman/10-tasks/ra-dqn/seed-3",
        "gridroboman/10-tasks/ra-dqn/seed-5",
        "gridroboman/30-tasks/dqn/seed-3",
        "gridroboman/30-tasks/dqn/seed-5",
    ]
    run = tiny.runs["gridroboman/30-tasks/dqn/seed-5"]
    assert (run.id, run.scale, run.settings.seed, run.settings.task_set) == (
        "gridroboman/30-tasks/dqn/seed-5",
        "tiny",
        5,
        "30-tasks",
    )
    assert run.tasks == [task.name for task in TASKS]
    assert tiny.runs["gridroboman/10-tasks/dqn/seed-3"].tasks == run.tasks[:10]
    assert run.datasets == [f"gridroboman/planner/{task.slug}" for task in TASKS]
    assert tiny.probes() == ["gridroboman/10-tasks/ra-dqn/seed-3", "gridroboman/10-tasks/ra-dqn/seed-5"]
    assert len(tiny.datasets) == 30
    assert tiny.datasets["gridroboman/planner/red-on-blue"].task == "red on blue"


# -------------------------------------------------------------------------------------------------------------- digests


OTHER_VALUES = {
    # Where the next larger number, the other flag or the next choice would not be valid or would be no other value.
    "agent.values": "rarl.nn.value_network:QHead",
    "agent.retrieval.d_m": 16,
    "episodes": 9,
    "agent.retrieval.slot_heads": 4,
    "agent.retrieval.k_traj": 2,
    "learning.discount": 0.95,
    "learning.double": False,
    "learning.tasks_per_batch": 3,
    "learning.decay_from": 0.6,
    "learning.decay_to": 0.2,
    "learning.trace_lambda": 0.5,
    "agent.retrieval.gradient_trajectories": 3,
    "agent.retrieval.pool.relevant": [0.5],
    "agent.retrieval.index.share": 0.25,
    "evaluation.epsilon": 0.1,
    "online.eta": 0.5,
    "online.importance_exponent": 0.5,
    "agent.retrieval.trajectory_steps": 5,
    "learning.masking.trajectory_steps": 5,
    "held_out": ["blue on red"],
    "episodic.d_key": 32,
    "source": "dqn",
    "agent.encoder": "mlp",
    "agent.base": "mfec",
}
PLACES = {  # of settings that only some agents have: project, variant, and what must be there beside them
    "online.": ("atari", "r2d2", {}),
    "learning.targets": ("atari", "r2d2", {}),
    "learning.rescale_epsilon": ("atari", "r2d2", {}),
    **{
        f"agent.retrieval.{key}": ("gridroboman", "ra-dqn", tiny_relevance.changes("exact"))
        for key in ("pool", "index", "propose", "relevance")
    },
    **dict.fromkeys(("episodic.", "agent.base"), ("gridroboman", "dqn", {"agent": {"base": "nec"}, "episodic": {}})),
}
NOT_CHANGES = {"environment", "experiment", "task_set", "tasks", "variant", "seed", "agent.core"}  # set by the place
OPTIONS = {"environment_options", "agent.encoder_options"}  # see below
EXECUTION_ONLY = {"checkpoint_seconds", "tensorboard", "cuda_graph", "online.overlap"}


def leaves(model, prefix=""):
    """(dotted name, field) of all settings below a model."""
    for name, field in model.model_fields.items():
        below = [part for part in (field.annotation, *get_args(field.annotation)) if hasattr(part, "model_fields")]
        if below:
            yield from leaves(below[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def another(name, value, field):
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 2 if value else 0.5
    choices = [choice for choice in getattr(field.annotation, "__args__", ()) if choice != value]
    return choices[0]


SETTINGS = [name for name, _ in leaves(RunSettings) if name not in NOT_CHANGES | OPTIONS]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_digest_changes_with_every_setting_that_can_change_the_result(tiny_root, tiny_atari_root, name):
    found = (place for prefix, place in PLACES.items() if name.startswith(prefix))
    environment, variant, beside = next(found, ("gridroboman", "ra-dqn", {}))
    root, task_set = (tiny_atari_root, "pong") if environment == "atari" else (tiny_root, 10)
    scale = Scale("tiny", root)
    place = (environment, task_set, variant, 0)
    run = scale.run(*place, beside)
    field = dict(leaves(RunSettings))[name]
    value = run.settings
    for part in name.split("."):
        value = getattr(value, part)
    if name == "learning.target_rate":
        change = {"learning": {"target_rate": 0.1, "target_period_updates": None}}
    elif name == "agent.retrieval.propose":
        change = {"agent": {"retrieval": {"propose": "uniform", "index": None}}}
    else:
        change = another(name, value, field)
        assert change != value
        for part in reversed(name.split(".")):
            change = {part: change}
    assert (scale.run(*place, merge(beside, change)).digest == run.digest) == (name in EXECUTION_ONLY)


PROJECTS = {"gridroboman": tiny_project, "babyai": tiny_babyai, "atari": tiny_atari}


@pytest.mark.parametrize("environment", PROJECTS)
def test_the_digest_changes_with_every_option_that_can_change_the_result(tmp_path, environment):
    """Of the environment, and of its encoders; given or by default, they count alike."""
    project, spec = PROJECTS[environment], spec_of(environment)
    project.write_config(tmp_path)
    variant = next(iter(project.EXPERIMENT["variants"]))
    usual = project.run_of(tmp_path, variant)
    models = {
        "environment_options": spec.options,
        "encoder_options": spec.encoder_options.get(usual.settings.agent.encoder),
    }
    seen = 0
    for place, model in models.items():
        there = (
            usual.settings.environment_options
            if place == "environment_options"
            else usual.settings.agent.encoder_options
        )
        fields = {} if model is None else load(model).model_fields
        assert there.keys() == fields.keys()

        def digest(options, place=place):
            changes = {place: options} if place == "environment_options" else {"agent": {place: options}}
            return project.run_of(tmp_path, variant, changes=changes).digest

        assert digest(there) == usual.digest
        for name, field in fields.items():
            without = place == "environment_options" and name in spec.options_without_effect
            assert (digest({name: another(name, there[name], field)}) == usual.digest) == without, name
            seen += 1
    assert seen == {"gridroboman": 0, "babyai": 3, "atari": 8}[environment]


def test_the_digest_changes_with_the_place_of_a_run(tiny_root):
    scale = Scale("tiny", tiny_root)
    runs = [("ra-dqn", 10, 0), ("ra-dqn", 10, 1), ("ra-dqn", 20, 0), ("nothing", 10, 0), ("ra-dqn-told", 10, 0)]
    digests = [scale.run("gridroboman", size, variant, seed).digest for variant, size, seed in runs]
    assert len(set(digests)) == len(runs)
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in digests)
    again = Scale("tiny", tiny_root).run("gridroboman", 10, "ra-dqn", 0)
    assert again.digest == digests[0]


def test_the_digest_of_a_dataset(tmp_path):
    def digests(**change):
        scale = copy.deepcopy(tiny_project.SCALE)
        scale["datasets"]["gridroboman"][0] |= change
        write(tmp_path, scale)
        return Scale("tiny", tmp_path).datasets["gridroboman/planner/touch-red"].digest

    usual = digests()
    assert digests() == usual
    # Which other tasks there are does not concern it.
    assert digests(tasks=[task.name for task in TASKS[:12]]) == usual
    assert digests(options={"noise_percent": [0, 10, 25, 50, 100]}) == usual  # as it is by default
    others = {digests(episodes=17), digests(seed=1), digests(options={"noise_percent": [0, 100]})}
    assert len(others) == 3
    assert usual not in others


# ------------------------------------------------------------------------------------------------------ what is shipped


def test_scales_are_shipped():
    assert {"smoke", "laptop"} <= set(SHIPPED)
    assert default_scale(ROOT) in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_scale_is_valid(name):
    scale = Scale(name, ROOT)
    assert scale.runs
    assert scale.settings.description
    for run in scale.runs.values():
        assert run.settings.seed not in TUNING_SEEDS
        assert scale.find_run(run.id) is run
    for run_id in scale.probes():
        agent = scale.runs[run_id].settings.agent
        if scale.runs[run_id].settings.environment == "gridroboman":
            assert agent.with_retrieval
            assert agent.retrieval.source != "none"
    planned = sum(
        (len(chosen.variants) + len(chosen.extended)) * len(at_scale.seeds or scale.settings.seeds)
        for at_scale in scale.settings.experiments.values()
        for chosen in at_scale.task_sets.values()
    )
    assert planned == len(scale.runs)  # no two have the same place


def test_extended_variants_are_planned_and_wanted_once_they_were_made(tmp_path):
    sets = tiny_project.SCALE["experiments"]["gridroboman"]["task_sets"]
    name, (first, *others) = next((name, chosen["variants"]) for name, chosen in sets.items())
    write(tmp_path)
    whole = Scale("tiny", tmp_path)
    assert whole.wanted() == whole.runs
    scale = copy.deepcopy(tiny_project.SCALE)
    scale["experiments"]["gridroboman"]["task_sets"][name] |= {"variants": [first], "extended": others}
    write(tmp_path, scale)
    found = Scale("tiny", tmp_path)
    assert {i: run.digest for i, run in found.runs.items()} == {i: run.digest for i, run in whole.runs.items()}
    later = set(found.runs) - set(found.wanted())
    assert {found.runs[i].settings.variant for i in later} == set(others)
    made = min(later)
    (tmp_path / "results/tiny/runs" / made).mkdir(parents=True)
    (tmp_path / "results/tiny/runs" / made / "run.json").touch()
    assert set(found.runs) - set(found.wanted()) == later - {made}
    scale["experiments"]["gridroboman"]["task_sets"][name]["extended"] = [first]
    assert "is planned twice" in error_of(tmp_path, scale=scale)


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_variants_of_a_shipped_scale_are_the_same_agent(name):
    """Not by their settings, nor because no more states can be kept than the trajectories kept have."""
    seen = {}
    for run in Scale(name, ROOT).runs.values():
        s = run.settings.model_dump(exclude={"variant"})
        retrieval = s["agent"]["retrieval"]
        if run.retrieves and s["environment"] == "gridroboman" and retrieval["select_by"] != "none":
            looks = -(-min(retrieval["trajectory_steps"] or EPISODE_STEPS, EPISODE_STEPS) // retrieval["step_stride"])
            there = retrieval["k_traj"] * looks
            retrieval["k_states"] = min(retrieval["k_states"] or there, there)
        other = seen.setdefault(json.dumps(s, sort_keys=True), run.id)
        assert other == run.id


@pytest.mark.parametrize("name", SHIPPED)
def test_agents_of_a_shipped_scale_differ_in_nothing_but_what_they_are(name):
    """Same budget, same learning, same evaluation: the comparison is of agents."""
    scale = Scale(name, ROOT)
    by_place, shared = {}, {}
    for run in scale.runs.values():
        s = run.settings
        if s.agent.base in EPISODIC:  # learns in ways of its own
            continue
        # The masking loss is what A-4 and A-5 are; how fast retrieval learns is one of what an agent with retrieval is.
        agents = {"masking", "retrieval_rate"}
        common = s.model_dump(exclude={"variant": True, "seed": True, "agent": True, "learning": agents})
        agent = s.agent.model_dump(include={"encoder", "d_s", "fusion"})
        experiment = scale.experiments[s.experiment]
        if experiment.whole_recipes:  # other budgets or sizes are what it is about, and its file says so
            continue
        if experiment.across == "agent.d_s":
            del agent["d_s"]
        # How u is let in, or how much of an imitator the agent is, is what some variants change, and say.
        changed = experiment.variants[s.variant].settings
        for group, name, value in (
            ("agent", "fusion", agent.pop("fusion")),
            ("learning", "conservative", common["learning"].pop("conservative")),
        ):
            if name not in changed.get(group, {}):
                assert shared.setdefault((s.experiment, s.task_set, name), value) == value
        # What learns from single states learns from other sequences than what is recurrent.
        by_place.setdefault((s.experiment, s.task_set, s.agent.core), []).append((common, agent))
    for settings in by_place.values():
        assert all(other == settings[0] for other in settings)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_network_of_a_shipped_scale_can_be_built(name):
    import torch

    from rarl.agents.build import build_network

    scale = Scale(name, ROOT)
    runs = {run.settings.variant: run.settings for run in scale.runs.values() if run.settings.seed == 0}
    for variant, settings in runs.items():
        with torch.random.fork_rng(devices=[]):
            network = build_network(settings, 7, 30)
        assert (network.retriever is not None) == (settings.agent.retrieval.process != "none"), variant

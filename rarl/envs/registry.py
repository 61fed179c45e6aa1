"""What is common to all environments, by name. Digests of code do not follow this module: a job names what it takes."""

from __future__ import annotations

LEARNERS = {  # kind -> class (run, device), or (run, datasets, device) of the one that learns from datasets
    "offline": "rarl.learners.offline:OfflineLearner",
    "online": "rarl.learners.online:OnlineLearner",
    "episodic": "rarl.learners.episodic:EpisodicLearner",
}
PROBES = {"plain": "rarl.probes.plain:PlainProbe"}  # what every environment has
ENCODERS = {"default": "rarl.nn.default_encoders:DefaultEncoder"}  # of environments that bring none
# Arguments of `rarl.envs.spec.Source`: of every environment that can be played, and the data of others.
SOURCES = {
    "random": {"make": "rarl.collect.play:generate_random"},
    "agent": {
        "make": "rarl.collect.play:generate_agent",
        "unit": "environment_steps",
        "options": {"settings": {}},
    },
    "minari": {"make": "rarl.collect.minari_source:generate_minari", "options": {"id": None, "root": None}},
}

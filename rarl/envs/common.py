"""By name: what every environment has beside its own.

Left out of the digests of jobs' code, which follow names: what a job uses of this is named in its digest (`rarl.jobs`).
"""

from __future__ import annotations

ENCODERS = {"default": "rarl.nn.default_encoders:DefaultEncoder"}  # of environments that bring none

# What agents learn of a state and an action: name -> class of the network's head (`rarl.nn.value_network.QHead`).
VALUES = {"expected": "rarl.nn.value_network:QHead"}

LEARNERS = {  # kind -> class (run, device), or (run, datasets, device) of the one that learns from datasets
    "offline": "rarl.learners.offline:OfflineLearner",
    "online": "rarl.learners.online:OnlineLearner",
    "episodic": "rarl.learners.episodic:EpisodicLearner",
}

PROBES = {  # by kind
    "plain": "rarl.probes.plain:PlainProbe",
    "pool": "rarl.probes.pools:PoolProbe",
    "data": "rarl.probes.on_data:DataProbe",
}

PICTURES = "rarl.envs.plain_pictures:PICTURES"  # of recorded episodes

# Sources of datasets.
RANDOM = "rarl.collect.play:generate_random"
AGENT = "rarl.collect.play:generate_agent"
MINARI = "rarl.collect.minari_source:generate_minari"
CHECK_MINARI = "rarl.collect.minari_source:check_options"

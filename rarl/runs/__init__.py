"""Runs: the loop that every learner shares, checkpoints, folders, device, search. Nothing of reinforcement learning."""

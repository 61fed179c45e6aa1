"""Trajectories on disk: the store, what is sampled from it, and how datasets are made."""

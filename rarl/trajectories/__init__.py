"""Trajectories on disk: the store, its checks, what is sampled from it, and its export."""

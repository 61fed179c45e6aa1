"""Collecting: datasets, made by experts or by agents in training."""

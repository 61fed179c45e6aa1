"""Probes: what a trained agent retrieves, and what happens when that changes."""

"""Benchmarks: what variants and indices cost."""

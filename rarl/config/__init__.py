"""Configuration: data only. What a run, a dataset, an experiment and a scale consist of, and what a scale plans."""

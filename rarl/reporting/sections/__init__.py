"""The parts of the report on an experiment, named in `rarl.reporting.registry`.

Each has a function `write` (study, sheet), called inside `figures.style()`, that writes the part from a study of any
environment, or nothing where nothing was measured.
"""

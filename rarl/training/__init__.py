"""Training: the loop that every learner shares, its checkpoints, its scratch folder, its progress and its device."""

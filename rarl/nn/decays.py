"""Time scales of the decay summariser; apart from it, so that configuration is checked without torch."""

DECAYS = (0.0, 0.5, 0.8, 1.0)  # per looked-at step

"""BabyAI: 40 levels of instructions in a small language, in rooms seen in part (Chevalier-Boisvert et al. 2019)."""

import os

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # minigrid imports pygame, which else prints a greeting

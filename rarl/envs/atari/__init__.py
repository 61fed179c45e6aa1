"""Atari: 57 games of the Arcade Learning Environment (Bellemare et al. 2013), played by single agents online.

The emulator, ale-py, is GPL-2.0: only this package imports it, and only when an environment is made.
"""

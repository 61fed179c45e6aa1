"""Gridroboman: a 7x7 board, a robot, three coloured objects, 30 tasks (Goyal et al. 2022, appendix A.4.2)."""

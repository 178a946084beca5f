"""Threads, forks, clocks and context variables, on which all other modules build."""

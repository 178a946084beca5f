"""Threads, forks, clocks and context variables, below everything else."""

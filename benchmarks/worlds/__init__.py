"""Simulated worlds for the canary: whole plans, fed to the judge many calls at a time."""

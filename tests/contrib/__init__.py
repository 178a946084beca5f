"""Tests of what is in contrib/."""

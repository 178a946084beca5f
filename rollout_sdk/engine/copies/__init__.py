"""Copies of arguments and outputs, and how values of each type are copied and restored."""

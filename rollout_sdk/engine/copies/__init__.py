"""Copies of what a candidate touches, and what is known of values by their types."""

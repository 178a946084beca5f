"""The engine: what happens between a caller's call and its return, and in the background afterwards."""

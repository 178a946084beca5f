"""Fault isolation: circuit breakers, fault counts, the kill switch, and threads for code that may hang."""

"""Answers whose work continues after the call returns: generators, iterators, awaitables, futures, streams."""

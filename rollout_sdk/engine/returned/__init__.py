"""Results whose work is still to come: generators, iterators, awaitables, futures, streams."""

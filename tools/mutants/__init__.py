"""One fault at a time: whether the tests notice it."""

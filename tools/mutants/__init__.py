"""Mutation tests: puts one fault at a time into the code, and checks whether a test notices it."""

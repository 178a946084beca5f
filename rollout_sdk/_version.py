"""The version, in one place: the build reads it from here, and the package from its own metadata."""

__version__ = "0.1.0"

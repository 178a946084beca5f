"""The built-in strategies, which only decide. They are registered through the same entry-point group as third-party ones."""

"""Several processes on one store, on real servers that are broken on purpose."""

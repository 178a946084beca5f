"""Plugins: the hooks they implement, how they are found, and how they are called so that one bad plugin harms nobody."""

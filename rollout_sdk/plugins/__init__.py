"""Plugins: the hooks they implement, how they are found, and how they are called so that a failing plugin harms no call."""

"""What keeps a fault from spreading: circuit breakers, counted faults, the kill switch, threads for what may hang."""

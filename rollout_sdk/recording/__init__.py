"""From the calls to those who keep what happened: the recorder, its sinks, and outcomes."""

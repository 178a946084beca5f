"""Other libraries' own test suites, run with rollouts around chosen functions: what passes bare must pass decorated."""

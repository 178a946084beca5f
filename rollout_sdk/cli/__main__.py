"""`python -m rollout_sdk.cli`, where the command is not on the path."""

from rollout_sdk.cli import main

main(prog_name="rollout")

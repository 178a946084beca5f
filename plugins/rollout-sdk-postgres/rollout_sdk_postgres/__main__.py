"""Prints the statements that create the schema, for an administrator: `python -m rollout_sdk_postgres [schema]`."""

from __future__ import annotations

import sys

from rollout_sdk_postgres.addresses import DEFAULT_SCHEMA, validated_schema
from rollout_sdk_postgres.schema import script

schema = validated_schema(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_SCHEMA)
sys.stdout.write(f"BEGIN;\nCREATE SCHEMA IF NOT EXISTS {schema};\n{script(schema)}\nCOMMIT;\n")

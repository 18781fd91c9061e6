"""When to start: sensors that ask a port what is new and request Dagster runs for it."""

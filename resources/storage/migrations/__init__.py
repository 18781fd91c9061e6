"""Alembic's migrations of the registry: runs, buckets and decisions."""

"""Migrations of the conditions database's tables, run through ``resources.conditions.upgrades``."""

"""Run registries."""

"""The command ``b2cal``."""

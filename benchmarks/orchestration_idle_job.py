"""A batch job that does nothing."""


def main(_args: list[str]) -> int:
    """Nothing."""
    return 0

"""Runs the command line as ``python -m b2cal_cli``."""

from b2cal_cli.main import main

if __name__ == "__main__":
    main()

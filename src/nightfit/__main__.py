"""`python -m nightfit` is the command line."""

from nightfit.cli import main

if __name__ == "__main__":
    main()

"""`python -m goodrate`: the command line."""

from goodrate.cli import main

if __name__ == "__main__":
    main()

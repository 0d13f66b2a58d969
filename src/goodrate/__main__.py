"""`python -m goodrate`: the command line."""

from goodrate.cli import main

main()

"""`python -m isobit`."""

from isobit.cli import main

main()

"""`python -m isobit.cli`."""

from isobit.cli import main

main()

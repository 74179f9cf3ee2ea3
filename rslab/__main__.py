"""`python -m rslab` is `rslab`."""

from rslab.cli import main

main()

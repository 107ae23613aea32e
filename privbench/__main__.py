"""python -m privbench."""

from privbench.cli.main import main

main()

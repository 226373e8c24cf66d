"""`python -m advbench`: the command where no script is on the path, as on the nodes of a cluster."""

from advbench.benchmark.cli.app import main

if __name__ == "__main__":
    main()

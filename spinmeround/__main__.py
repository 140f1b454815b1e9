"""`python -m spinmeround` is the command `spinmeround`."""

from spinmeround.flows.cli.app import main

if __name__ == "__main__":
    main()

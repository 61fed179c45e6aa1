"""`python -m rarl` is `rarl`."""

from rarl.cli import main

if __name__ == "__main__":
    main()

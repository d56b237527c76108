"""``python -m fairprune_sk`` is the command ``fairprune``."""

from fairprune_sk.cli import main

if __name__ == "__main__":
    main()

"""``python -m hardway`` is the same program as ``hardway``."""

from hardway.cli import main

if __name__ == "__main__":
    main()

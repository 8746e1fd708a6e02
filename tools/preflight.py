"""Print before a build what the book runs on, or why it can't be built."""

import sys

from execution.facts import facts


def main() -> int:
    """Print the model and the versions."""
    try:
        known = facts()
    except (OSError, ValueError) as error:
        print(f"HARDWAY_MODEL: {error}", file=sys.stderr)
        return 2
    print(
        f"The book runs on the model {known['model']} ({known['parameters']} "
        f"parameters), Python {known['python']} and torch {known['torch']}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Print before a build what the book runs on, or why it can't be built."""

import sys

from execution.facts import facts
from hardway import hub
from hardway.transfer import DownloadError, difference


def main() -> int:
    """Print the models and the versions."""
    try:
        known = facts()
    except (OSError, ValueError) as error:
        print(f"HARDWAY_MODEL: {error}", file=sys.stderr)
        return 2
    try:
        check_smollm2()
    except (OSError, ValueError) as error:
        print(f"HARDWAY_HOME: {error}", file=sys.stderr)
        return 2
    print(
        f"The book runs on the model {known['model']} ({known['parameters']} "
        f"parameters), Part II on smollm2, with Python {known['python']} and torch "
        f"{known['torch']}."
    )
    return 0


def check_smollm2() -> None:
    """Hash the weights of Part II's model: a cache or a copy may have damaged them.

    Raises `OSError` or `ValueError` if they are missing, or aren't the pinned ones.
    """
    path, file = hub.weights("smollm2"), hub.CHECKPOINTS["smollm2"].files[-1]
    if found := difference(path, file):
        raise DownloadError(
            f"{path} {found}: delete it, then run `hardway download smollm2`"
        )


if __name__ == "__main__":
    sys.exit(main())

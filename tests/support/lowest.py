"""Print the lowest versions of what users install, as requirements for pip.

    python tests/support/lowest.py

They are the lower bounds of the direct dependencies in pyproject.toml, the extras'
included. torch is left out: its bound is the version in constraints.txt.
"""

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]


def lower_bounds() -> dict[str, str]:
    """Return the lowest version that each direct dependency but torch allows."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    bounds = {}
    for requirement in map(Requirement, chain(project["dependencies"], extras)):
        (bound,) = [s.version for s in requirement.specifier if s.operator == ">="]
        bounds[requirement.name] = bound
    del bounds["torch"]
    return bounds


if __name__ == "__main__":
    for name, bound in lower_bounds().items():
        print(f"{name}=={bound}")

"""The directories that the extensions and the programs in ``tools`` share."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "src" / "hardway"
BOOK = REPOSITORY / "book"
EXTENSIONS = BOOK / "_ext"
FIGURES = BOOK / "_figures"

"""Programs around the book: before its build, on the built pages, on its notebooks.

    python -m tools.audit _build/html

They share modules with the book's Sphinx extensions.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "book" / "_ext"))

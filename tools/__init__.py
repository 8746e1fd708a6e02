"""Programs that ``make`` runs around the book: ``python -m tools.audit _build/html``.

They import modules of the book's Sphinx extensions.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

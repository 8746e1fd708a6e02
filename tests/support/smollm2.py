"""Where SmolLM2's file is, for the tests that need it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = [ROOT / "models", Path(os.environ.get("HARDWAY_HOME") or ROOT / "models")]
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
PATHS = [home / "smollm2" / NAME for home in HOMES]
SMOLLM2 = next((path for path in PATHS if path.is_file()), PATHS[0])
needs_smollm2 = pytest.mark.skipif(
    not SMOLLM2.is_file(),
    reason="SmolLM2's weights are not in models/smollm2 or $HARDWAY_HOME/smollm2; "
    "`hardway download smollm2` fetches them (98 MB)",
)

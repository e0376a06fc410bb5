"""Python imports this when it starts a command or a worker of tests/portability/test_systems.py: as if it ran on macOS."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import taken_away

taken_away.as_on_macos()

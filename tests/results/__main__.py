"""Make a stored result again: python -m tests.results NAME."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(
    path.stem.replace("_", "-") for path in HERE.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
)

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.exit(f"which result? make results NAME=..., one of {', '.join(NAMES)}")
    importlib.import_module(f"tests.results.{sys.argv[1].replace('-', '_')}").main()

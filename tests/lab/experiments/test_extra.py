"""What reproduce says where the extra that draws is not installed."""

import subprocess
import sys

WITHOUT = """
import sys
sys.modules["matplotlib"] = None
from gradvote.__main__ import main
sys.argv = ["gradvote", "reproduce", "ties"]
sys.exit(main())
"""


def test_a_missing_extra_is_named() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode != 0
    told = " ".join((run.stdout + run.stderr).split())
    assert "pip install 'gradvote[report]'" in told and "Traceback" not in told

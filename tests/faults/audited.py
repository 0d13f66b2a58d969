"""Whether an audit looked at all: python tests/faults/audited.py build/audit.json   after pip-audit --format json

pip-audit ends with success where its feed knows none of the packages, which a mirror without a feed does. Exit code 1
where packages other than this one were not looked up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

OURS = {"goodrate"}


def main(path: Path) -> int:
    """Say what was audited; the exit code."""
    packages = json.loads(path.read_text(encoding="utf-8"))["dependencies"]
    skipped = sorted(one["name"] for one in packages if "skip_reason" in one and one["name"] not in OURS)
    print(f"{len(packages) - len(skipped):,} of {len(packages):,} packages were looked up")
    if not skipped:
        return 0
    print(f"not looked up: {', '.join(skipped[:10])}{', ...' if len(skipped) > 10 else ''}")
    print("nothing is known of these; ask a feed that knows them: pip-audit -s osv, or PyPI itself and no mirror of it")
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

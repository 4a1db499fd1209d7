"""Deals scikit-learn's handwritten digits to nodes, unevenly: `python examples/digits/share.py FOLDER [NAME...]`.

Writes a table for each name (alice and bob if none is given), and test.csv, which no node should get.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grid.cli import digits


def main(folder: Path, names: list[str]) -> None:
    dealt = digits.deal(digits.load(), len(names))
    folder.mkdir(parents=True, exist_ok=True)
    for name, share in zip([*names, "test"], [*dealt.shares, dealt.test], strict=True):
        digits.write_csv(share, folder / f"{name}.csv")
        print(f"{folder / name}.csv: {len(share)} scans; of the digits 0 to 9: {digits.labels(share)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or ["alice", "bob"])

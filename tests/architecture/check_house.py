#!/usr/bin/env python3
"""Checks a source tree against the rules of the house; exits 1 when one is broken.

    check_house.py ROOT
"""
import sys

sys.dont_write_bytecode = True

from house import file_lists, file_style, include_ladder  # noqa: E402
from house.source_tree import SourceTree  # noqa: E402


def violations_of(tree):
    for module in (include_ladder, file_lists, file_style):
        yield from module.check(tree)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    tree = SourceTree(sys.argv[1])
    for lines, path in sorted(file_style.long_files(tree), reverse=True):
        print(f"note: {path} has {lines} lines")
    violations = list(violations_of(tree))
    for violation in violations:
        print(violation)
    print(f"{len(tree.files)} files, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Tells which sources of one target may be compiled as one text; cmake/MoedUnity.cmake asks.

    unity_groups.py FILES_AT_ONCE FILE...

Prints "GROUP FILE" for each file. Two files share a text only where no name that one of them keeps to
itself (in an anonymous namespace, static, a macro) occurs in the other: then none clashes, and none
means something else than it does where its file is compiled alone. Relies on clang-format, which
begins in column 0 what stands in a namespace.
"""
import re
import sys

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
MACRO = re.compile(r"#\s*define\s+(\w+)")
MACRO_CALL = re.compile(r"[A-Z][A-Z0-9_]*\s*\(")
TYPE = re.compile(r"\b(?:enum\s+class|enum|class|struct|union|concept)\s+(\w+)")
OTHER = re.compile(r"(\w+)\s*[({=;\[]")
NO_NEW_NAME = re.compile(r"using\s+(namespace\s|[\w:]+\s*;)|#")


def own_names(text):
    """Names that the file keeps to itself. One too many costs a little time; one too few may clash."""
    names = set()
    anonymous = False
    for line in text.split("\n"):
        macro = MACRO.match(line)
        if macro:
            names.add(macro[1])
        elif line.startswith("namespace {"):
            anonymous = True
        elif line.startswith("}  // namespace"):
            anonymous = anonymous and line != "}  // namespace"
        elif (anonymous or line.startswith("static ")) and re.match(r"\w", line):
            if not NO_NEW_NAME.match(line) and not MACRO_CALL.match(line):
                names.update(found[1] for found in (TYPE.search(line), OTHER.search(line)) if found)
    return names


def main():
    at_once, files = int(sys.argv[1]), sys.argv[2:]
    groups = []  # [names kept by a file of it, words in it, files in it]
    for file in files:
        with open(file, encoding="utf-8") as source:
            text = source.read()
        own, words = own_names(text), set(re.findall(r"\w+", COMMENT.sub("", text)))
        for number, (kept, used, count) in enumerate(groups):
            if count < at_once and not own & used and not words & kept:
                break
        else:
            number, kept, used, count = len(groups), set(), set(), 0
            groups.append(None)
        groups[number] = (kept | own, used | words, count + 1)
        print(f"{number} {file}")


if __name__ == "__main__":
    main()

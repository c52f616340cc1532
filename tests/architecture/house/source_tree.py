"""The files of a source tree, read once."""
import os
import re
from dataclasses import dataclass

CODE_SUFFIXES = (".h", ".cc", ".cuh", ".cu")
TEXT_SUFFIXES = CODE_SUFFIXES + (".proto", ".py", ".cmake", ".md", ".txt", ".json", ".sh")
# Folders of the root that hold no sources of ours.
SKIPPED = re.compile(r"^(build.*|\..*|__pycache__)$")


@dataclass(frozen=True)
class Violation:
    path: str
    line: int  # 1-based; 0: the file as a whole
    rule: str
    text: str

    def __str__(self):
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: [{self.rule}] {self.text}"


class SourceTree:
    """Text files by their path relative to the root, with forward slashes."""

    def __init__(self, root):
        self.root = root
        self.files = {}
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if not SKIPPED.match(f))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
                if is_text(path):
                    with open(os.path.join(folder, name), encoding="utf-8") as f:
                        self.files[path] = f.read()

    def exists(self, path):
        return os.path.exists(os.path.join(self.root, path))

    def code(self):
        """(path, text) of C++ and CUDA files."""
        return [(p, t) for p, t in self.files.items() if p.endswith(CODE_SUFFIXES)]

    def build_files(self):
        """(path, text without comments) of CMake's file lists."""
        return [(p, re.sub(r"#.*", "", t)) for p, t in self.files.items()
                if p.endswith("CMakeLists.txt")]


def is_text(path):
    name = path.rsplit("/", 1)[-1]
    return path.endswith(TEXT_SUFFIXES) or (path.startswith("scripts/") and "." not in name)


def without_comments(text):
    """C++ text with comments and string contents blanked; lines stay where they are."""
    def blank(match):
        found = match.group(0)
        if found.startswith(("\"", "'")):
            return found[0] + " " * (len(found) - 2) + found[0]
        return re.sub(r"[^\n]", " ", found)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'|//[^\n]*|/\*.*?\*/', blank, text,
                  flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1

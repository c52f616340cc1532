"""Rules that hold for one file at a time."""
import posixpath
import re

from .source_tree import CODE_SUFFIXES, Violation, line_of, without_comments

MAX_LINES = 600
LONG_HEADER_LINES = 200
LONG_SOURCE_LINES = 400

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bfor now\b")
ABSOLUTE_PATH = re.compile(r"(?<![\w.~/:}])/(home|root|work|Users|mnt|media|tmp|srv)/\w")
# Ends of the process: a library returns a status instead.
EXIT = re.compile(r"(?<![\w.>])(?:std::|::)?(_exit|exit|_Exit|quick_exit|abort)\s*\(")
MAY_EXIT = re.compile(r"^(server|client)/main(_\w+)?\.cc$|^kernels/core/check\.cc$|^tests/")
DEVICE_CONDITIONAL = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)\b.*(CUDA|NVCC|NCCL)", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def check(tree):
    for path, text in tree.files.items():
        # These name what they forbid.
        if path.startswith("tests/architecture/"):
            continue
        yield from check_length(path, text)
        for pattern, rule, why in ((UNFINISHED, "unfinished", "finish it, or refuse it clearly"),
                                   (ABSOLUTE_PATH, "absolute-path", "true on one machine only")):
            for match in pattern.finditer(text):
                yield Violation(path, line_of(text, match.start()), rule,
                                f"'{match.group(0)}': {why}")
        if path.endswith(CODE_SUFFIXES):
            yield from check_code(path, text)
        if path.endswith(".md"):
            yield from check_links(tree, path, text)


def is_program_text(path):
    return path.endswith(CODE_SUFFIXES + (".proto", ".py", ".cmake", "CMakeLists.txt")) or \
        path.startswith("scripts/")


def check_length(path, text):
    lines = text.count("\n")
    if is_program_text(path) and lines > MAX_LINES:
        yield Violation(path, 0, "length", f"{lines} lines, the most is {MAX_LINES}: split it")


def long_files(tree):
    """(lines, path) of files that are longer than is usual, though not too long."""
    for path, text in tree.files.items():
        usual = LONG_HEADER_LINES if path.endswith((".h", ".cuh")) else LONG_SOURCE_LINES
        if is_program_text(path) and usual < text.count("\n") <= MAX_LINES:
            yield text.count("\n"), path


def check_code(path, text):
    bare = without_comments(text)
    header = path.endswith((".h", ".cuh"))
    if header and not re.search(r"^#pragma once$", bare, re.M):
        yield Violation(path, 0, "header", "#pragma once is missing")
    if header:
        for match in re.finditer(r"^[ \t]*using namespace\b", bare, re.M):
            yield Violation(path, line_of(bare, match.start()), "header",
                            "no using namespace in a header")
    if not MAY_EXIT.match(path):
        for match in EXIT.finditer(bare):
            yield Violation(path, line_of(bare, match.start()), "exit",
                            f"{match.group(1)}() outside main: return a status")
    if "cuda" not in path.split("/") and not path.startswith("tests/cuda_host/"):
        for match in DEVICE_CONDITIONAL.finditer(bare):
            yield Violation(path, line_of(bare, match.start()), "device-conditional",
                            "a device is chosen at run time, behind the seams")


def check_links(tree, path, text):
    for match in LINK.finditer(text):
        target = match.group(1)
        if re.match(r"[a-z]+:", target):
            continue
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if not tree.exists(target):
            yield Violation(path, line_of(text, match.start()), "link", f"{target} does not exist")

"""CMake names every file, once per library, and the link line shows the ladder."""
import posixpath
import re

from .include_ladder import ROOMS, room_of
from .source_tree import Violation, line_of

LISTED = re.compile(r"[\w./${}+-]+\.(?:cc|cu|proto)\b")
LIBRARY = re.compile(r"moed_library\(\s*(\w+)\s+([^)]*)\)")
# moed_fuzz(NAME ...) compiles NAME.cc of its folder.
FUZZ_TARGET = re.compile(r"^[ \t]*moed_fuzz\(\s*(\w+)", re.M)
GENERATED_LIBRARY = re.compile(r"add_library\(\s*(moed_\w+)")


def listed_files(path, text):
    """(offset, file relative to the root) for each source that a CMakeLists.txt names."""
    folder = posixpath.dirname(path)
    for match in LISTED.finditer(text):
        name = match.group(0)
        base = folder
        for variable, where in (("${PROJECT_SOURCE_DIR}/", ""), ("${CMAKE_SOURCE_DIR}/", ""),
                                ("${CMAKE_CURRENT_SOURCE_DIR}/", folder)):
            if name.startswith(variable):
                name, base = name[len(variable):], where
        if "$" not in name and not name.endswith(".pb.cc"):
            yield match.start(), posixpath.normpath(posixpath.join(base, name))
    for match in FUZZ_TARGET.finditer(text):
        yield match.start(), posixpath.join(folder, f"{match.group(1)}.cc")


def check(tree):
    listed = set()
    for path, text in tree.build_files():
        glob = re.search(r"\bGLOB(_RECURSE)?\b", text)
        if glob:
            yield Violation(path, line_of(text, glob.start()), "file-list",
                            "file lists are written out, not globbed")
        for offset, name in listed_files(path, text):
            listed.add(name)
            if not tree.exists(name):
                yield Violation(path, line_of(text, offset), "file-list", f"{name} does not exist")
    for path in tree.files:
        if path.endswith((".cc", ".cu", ".proto")) and path not in listed:
            yield Violation(path, 0, "file-list", "no CMakeLists.txt names this file")
    yield from check_libraries(tree)


def check_libraries(tree):
    """One library per room, linking only libraries of rooms that the room may include."""
    room_of_library, uses = {}, []
    for path, text in tree.build_files():
        for match in GENERATED_LIBRARY.finditer(text):
            room_of_library[match.group(1)] = room_of(path)
        for match in LIBRARY.finditer(text):
            line = line_of(text, match.start())
            sources = {posixpath.dirname(f) for _, f in listed_files(path, match.group(2))}
            rooms = sorted({room_of(f"{folder}/x") or folder for folder in sources})
            if len(rooms) != 1:
                yield Violation(path, line, "library-per-folder",
                                f"{match.group(1)} has files of {', '.join(rooms) or 'no folder'}")
                continue
            room_of_library[match.group(1)] = rooms[0]
            uses.append((path, line, rooms[0], re.findall(r"\bmoed_\w+", match.group(2))))
    for path, line, room, libraries in uses:
        for library in libraries:
            other = room_of_library.get(library, room)
            if other != room and other not in ROOMS.get(room, set()):
                yield Violation(path, line, "ladder", f"{room} may not link {library} ({other})")

"""Who may include what: docs/architecture.md, "The ladder"."""
import re

from .source_tree import Violation, line_of

FLOOR = {"kernels/core"}
SEAM = FLOOR | {"kernels"}  # kernels/backend.h
RUNTIME_LEAVES = {"runtime/checkpoint", "runtime/tokenizer", "runtime/schedule"}
RUNTIME = RUNTIME_LEAVES | {"runtime/model", "runtime/output", "runtime/engine"}
SERVER_BELOW_RPC = {"server/errors", "server/state", "server/security", "server/observe",
                    "server/admission", "server/handlers"}

# A file belongs to the longest room that its path starts with, and may include its own room and
# these. A device's folder is nobody's business but its own: above it there is only the seam.
ROOMS = {
    "kernels/core": set(),
    "kernels": FLOOR,
    "kernels/cpu": SEAM,
    "kernels/cuda": SEAM,
    "parallel": SEAM,
    "parallel/cuda": SEAM | {"kernels/cuda", "parallel"},
    "runtime/checkpoint": SEAM | {"parallel"},
    "runtime/tokenizer": FLOOR,
    "runtime/schedule": FLOOR | {"parallel"},
    "runtime/model": SEAM | {"parallel", "runtime/checkpoint"},
    "runtime/output": FLOOR | {"runtime/tokenizer", "runtime/schedule"},
    "runtime/engine": SEAM | {"parallel"} | RUNTIME,
    "server/state": SEAM | {"parallel"} | RUNTIME,
    "server/errors": FLOOR | {"proto"},
    "server/security": FLOOR | {"server/errors"},
    "server/observe": FLOOR | {"server/errors", "runtime/output", "runtime/schedule"},
    "server/metrics": FLOOR | {"server/observe", "server/state"} | RUNTIME,
    "server/http": FLOOR | {"server/errors", "server/security", "server/observe", "server/state"} | RUNTIME,
    "server/admission": SEAM | {"proto", "server/errors", "server/state"} | RUNTIME,
    "server/handlers": SEAM | {"parallel", "proto", "server/errors", "server/admission",
                               "server/state"} | RUNTIME,
    "server/rpc": FLOOR | {"proto"} | SERVER_BELOW_RPC | RUNTIME,
    "server/app": SEAM | {"parallel", "kernels/cpu", "server/metrics", "server/http",
                          "server/rpc"} | SERVER_BELOW_RPC | RUNTIME,
    "server": FLOOR | {"server/app"},  # main.cc
    "client": {"proto"},
    "proto": set(),
}

# Libraries by their include paths, and the rooms that may use them. A room's subfolders may too.
LIBRARIES = [
    ("gRPC", r"(grpc|grpcpp)/", {"server/rpc", "client"}),
    ("Protobuf", r"google/protobuf/", {"server/admission", "server/handlers", "server/rpc", "client"}),
    ("Boost", r"boost/", {"server/http"}),
    ("prometheus-cpp", r"prometheus/", {"server/metrics"}),
    ("spdlog", r"spdlog/", {"server/app"}),
    ("CLI11", r"CLI/", {"server/app", "client"}),
    ("OpenSSL", r"openssl/",
     {"runtime/checkpoint", "runtime/schedule", "server/security", "server/http"}),
    ("nlohmann-json", r"nlohmann/",
     {"runtime/checkpoint", "runtime/tokenizer", "server/http", "server/app", "client"}),
    ("CUDA", r"(cuda|cublas|cub/|nccl|nvtx|nvml|cutlass|cute/|thrust/|cooperative_groups|mma\.h)",
     {"kernels/cuda", "parallel/cuda"}),
    ("SentencePiece, which brings a Protobuf of its own", r"sentencepiece", set()),
    ("a test library", r"(gtest|gmock|benchmark)/", set()),
    ("a lock that is not moed::Mutex",
     r"(mutex|shared_mutex|condition_variable|semaphore|absl/synchronization/mutex\.h)$",
     {"kernels/core"}),
]
# Tests may use what they test; gRPC stays out of those that run under ThreadSanitizer.
TESTS_WITH_GRPC = ("tests/server/", "tests/client/", "tests/integration/", "tests/fuzz/",
                   "tests/bench/")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    """The room of a file, None for one outside the house."""
    if path.endswith((".pb.h", ".pb.cc")):
        return "proto"
    folder = path.rsplit("/", 1)[0] if "/" in path else ""
    while folder:
        if folder in ROOMS:
            return folder
        folder = folder.rsplit("/", 1)[0] if "/" in folder else ""
    return None


def check(tree):
    for path, text in tree.code():
        if path.startswith("tests/"):
            yield from check_test(path, text)
            continue
        room = room_of(path)
        if room is None:
            yield Violation(path, 0, "ladder", "this folder is not in the ladder; add it to ROOMS "
                            "and to docs/architecture.md")
            continue
        for match in INCLUDE.finditer(text):
            yield from check_include(tree, path, room, line_of(text, match.start()),
                                     match.group(1), match.group(2))


def check_include(tree, path, room, line, bracket, target):
    target_room = room_of(target)
    if target_room is not None and (bracket == '"' or tree.exists(target)):
        if target_room != room and target_room not in ROOMS[room]:
            yield Violation(path, line, "ladder", f"{room} may not include {target}")
        return
    if target.startswith("tests/"):
        yield Violation(path, line, "ladder", f"{room} may not include {target}")
        return
    for name, pattern, rooms in LIBRARIES:
        if re.match(pattern, target) and room not in rooms:
            yield Violation(path, line, "library", f"{room} may not use {name} ({target})")


def check_test(path, text):
    if path.startswith(TESTS_WITH_GRPC):
        return
    for match in INCLUDE.finditer(text):
        target = match.group(2)
        room = room_of(target)
        if room in ("proto", "client") or (room or "").split("/")[0] == "server" or \
                re.match(r"(grpc|grpcpp|google/protobuf)/", target):
            yield Violation(path, line_of(text, match.start()), "ladder",
                            f"this test runs under ThreadSanitizer and may not link gRPC ({target})")

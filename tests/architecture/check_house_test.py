#!/usr/bin/env python3
"""Plants one breach of each rule in a small sound tree and expects exactly that report."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import check_house  # noqa: E402
from house.source_tree import SourceTree  # noqa: E402

HEADER = "#pragma once\n"
SOUND = {
    "README.md": "# A house\n\n[how](docs/architecture.md#ladder) [out](https://example.org)\n",
    "docs/architecture.md": "# The house\n",
    "kernels/CMakeLists.txt": "moed_library(moed_kernels_core SOURCES core/buffer.cc DEPS absl)\n",
    "kernels/core/buffer.h": HEADER + "#include <mutex>\n",
    "kernels/core/buffer.cc": '#include "kernels/core/buffer.h"\n',
    "kernels/backend.h": HEADER + '#include "kernels/core/buffer.h"\n',
    "kernels/cpu/CMakeLists.txt": "moed_library(moed_kernels_cpu SOURCES norm.cc\n"
                                  "  DEPS moed_kernels_core)\n",
    "kernels/cpu/norm.h": HEADER,
    "kernels/cpu/norm.cc": '#include "kernels/backend.h"\n// std::exit( in a comment is none\n',
    "parallel/CMakeLists.txt": "moed_library(moed_parallel SOURCES placement.cc\n"
                               "  DEPS moed_kernels_core)  # glob.cc is a comment\n",
    "parallel/placement.h": HEADER,
    "parallel/placement.cc": '#include "parallel/placement.h"\n',
    "proto/CMakeLists.txt": "list(APPEND protos moed/v1/model.proto)\n"
                            "add_library(moed_proto STATIC ${generated})\n",
    "proto/moed/v1/model.proto": "package moed.v1;\n",
    "runtime/schedule/CMakeLists.txt":
        "moed_library(moed_runtime_schedule SOURCES scheduler.cc DEPS moed_parallel)\n",
    "runtime/schedule/scheduler.h": HEADER,
    "runtime/schedule/scheduler.cc": '#include "parallel/placement.h"\nstream.abort();\n',
    "runtime/tokenizer/tokenizer.h": HEADER,
    "server/CMakeLists.txt": "moed_library(moed_server_app SOURCES app/daemon.cc DEPS x)\n"
                             "add_executable(moed main.cc\n"
                             "  ${CMAKE_CURRENT_SOURCE_DIR}/rpc/model.cc)\n",
    "server/main.cc": '#include "server/app/daemon.h"\nint main() { std::exit(0); }\n',
    "server/app/daemon.h": HEADER,
    "server/app/daemon.cc": '#include <spdlog/spdlog.h>\n#include "server/rpc/model.h"\n',
    "server/rpc/model.h": HEADER,
    "server/rpc/model.cc": '#include <grpcpp/grpcpp.h>\n#include "moed/v1/model.grpc.pb.h"\n'
                           '#include "runtime/schedule/scheduler.h"\n',
    "scripts/demo": "#!/usr/bin/env bash\n",
    "tests/fuzz/CMakeLists.txt": "function(moed_fuzz name)\nmoed_fuzz(header_fuzz DEPS moed_x)\n",
    "tests/fuzz/header_fuzz.cc": "",
    "tests/parallel/CMakeLists.txt": "moed_test(parallel_test SOURCES placement_test.cc)\n",
    "tests/parallel/placement_test.cc": '#include "gtest/gtest.h"\n'
                                        '#include "parallel/placement.h"\n',
    "tests/server/CMakeLists.txt": "moed_test(server_test SOURCES model_test.cc)\n",
    "tests/server/model_test.cc": "#include <grpcpp/grpcpp.h>\n",
}

# name of the case: (rule, path that is reported, what is planted over SOUND)
BREACHES = {
    "upward include": ("ladder", "parallel/placement.h", {
        "parallel/placement.h": HEADER + '#include "runtime/schedule/scheduler.h"\n'}),
    "sideways include inside runtime": ("ladder", "runtime/schedule/scheduler.h", {
        "runtime/schedule/scheduler.h": HEADER + '#include "runtime/tokenizer/tokenizer.h"\n'}),
    "include in angle brackets": ("ladder", "parallel/placement.h", {
        "parallel/placement.h": HEADER + "#  include <runtime/schedule/scheduler.h>\n"}),
    "device under the seam": ("ladder", "runtime/schedule/scheduler.h", {
        "runtime/schedule/scheduler.h": HEADER + '#include "kernels/cpu/norm.h"\n'}),
    "product code that includes a test": ("ladder", "server/rpc/model.cc", {
        "server/rpc/model.cc": '#include "tests/support/fake.h"\n'}),
    "generated messages below the server": ("ladder", "parallel/placement.h", {
        "parallel/placement.h": HEADER + '#include "moed/v1/model.pb.h"\n'}),
    "gRPC in a test that runs under ThreadSanitizer": (
        "ladder", "tests/parallel/placement_test.cc", {
            "tests/parallel/placement_test.cc": "#include <grpcpp/grpcpp.h>\n"}),
    "folder that nobody knows": ("ladder", "helpers/misc.h", {"helpers/misc.h": HEADER}),
    "upward link": ("ladder", "kernels/CMakeLists.txt", {
        "kernels/CMakeLists.txt": "moed_library(moed_kernels_core SOURCES core/buffer.cc\n"
                                  "  DEPS moed_parallel)\n"}),
    "link of messages below the server": ("ladder", "parallel/CMakeLists.txt", {
        "parallel/CMakeLists.txt": "moed_library(moed_parallel SOURCES placement.cc\n"
                                   "  DEPS moed_proto)\n"}),
    "gRPC below the server": ("library", "parallel/placement.h", {
        "parallel/placement.h": HEADER + "#include <grpcpp/grpcpp.h>\n"}),
    "log library below the server": ("library", "runtime/schedule/scheduler.h", {
        "runtime/schedule/scheduler.h": HEADER + "#include <spdlog/spdlog.h>\n"}),
    "CUDA outside its folders": ("library", "kernels/cpu/norm.h", {
        "kernels/cpu/norm.h": HEADER + "#include <cuda_runtime.h>\n"}),
    "bare mutex": ("library", "parallel/placement.h", {
        "parallel/placement.h": HEADER + "#include <mutex>\n"}),
    "a front end that knows the program": ("ladder", "server/rpc/model.cc", {
        "server/rpc/model.cc": '#include "server/app/daemon.h"\n'}),
    "gRPC outside its room of the server": ("library", "server/app/daemon.cc", {
        "server/app/daemon.cc": "#include <grpcpp/grpcpp.h>\n"}),
    "test library in product code": ("library", "server/rpc/model.cc", {
        "server/rpc/model.cc": '#include "gtest/gtest.h"\n'}),
    "source that no list names": ("file-list", "kernels/cpu/attention.cc", {
        "kernels/cpu/attention.cc": ""}),
    "proto that no list names": ("file-list", "proto/moed/v1/expert.proto", {
        "proto/moed/v1/expert.proto": ""}),
    "listed file that is gone": ("file-list", "tests/server/CMakeLists.txt", {
        "tests/server/CMakeLists.txt": "moed_test(server_test SOURCES model_test.cc gone.cc)\n"}),
    "fuzz target without its file": ("file-list", "tests/fuzz/CMakeLists.txt", {
        "tests/fuzz/CMakeLists.txt": "moed_fuzz(header_fuzz)\nmoed_fuzz(gone_fuzz)\n"}),
    "globbed list": ("file-list", "tests/CMakeLists.txt", {
        "tests/CMakeLists.txt": "file(GLOB sources *.cc)\n"}),
    "library of two folders": ("library-per-folder", "kernels/CMakeLists.txt", {
        "kernels/CMakeLists.txt":
            "moed_library(moed_kernels_core SOURCES core/buffer.cc cpu/norm.cc)\n"}),
    "file of 601 lines": ("length", "kernels/core/buffer.cc", {
        "kernels/core/buffer.cc": "\n" * 601}),
    "unfinished code": ("unfinished", "kernels/cpu/norm.cc", {
        "kernels/cpu/norm.cc": "// TODO(me): the tail\n"}),
    "a path of one machine": ("absolute-path", "scripts/demo", {
        "scripts/demo": "#!/usr/bin/env bash\ncat /home/me/model\n"}),
    "header without a guard": ("header", "kernels/cpu/norm.h", {"kernels/cpu/norm.h": "\n"}),
    "using namespace in a header": ("header", "kernels/cpu/norm.h", {
        "kernels/cpu/norm.h": HEADER + "using namespace std;\n"}),
    "exit in a library": ("exit", "kernels/cpu/norm.cc", {
        "kernels/cpu/norm.cc": "void F() { std::exit(1); }\n"}),
    "device conditional": ("device-conditional", "kernels/backend.h", {
        "kernels/backend.h": HEADER + "#ifdef MOED_CUDA\n#endif\n"}),
    "dead link": ("link", "README.md", {"README.md": "[how](docs/gone.md)\n"}),
}


def reports(files):
    """(rule, path) of each violation in a tree of `files`."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        return [(v.rule, v.path) for v in check_house.violations_of(SourceTree(root))]


class CheckHouseTest(unittest.TestCase):
    def test_sound_tree_has_no_violation(self):
        self.assertEqual(reports(SOUND), [])

    def test_each_breach_is_reported_and_nothing_else(self):
        for name, (rule, path, planted) in BREACHES.items():
            with self.subTest(name):
                self.assertEqual(reports({**SOUND, **planted}), [(rule, path)])

    def test_600_lines_are_allowed(self):
        self.assertEqual(reports({**SOUND, "kernels/core/buffer.cc": "\n" * 600}), [])

    def test_a_violation_names_its_line(self):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "scripts"))
            with open(os.path.join(root, "scripts/demo"), "w", encoding="utf-8") as f:
                f.write("one\ntwo\n# FIXME\n")
            lines = [str(v) for v in check_house.violations_of(SourceTree(root))]
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].startswith("scripts/demo:3: [unfinished]"), lines[0])


if __name__ == "__main__":
    unittest.main()

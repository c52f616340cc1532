#!/usr/bin/env python3
"""Writes a C++ file with the names of all kernels (__global__ functions) in the given .cu files."""

import pathlib
import re
import sys

KERNEL = re.compile(
    r"__global__\s+(?:static\s+|inline\s+)*(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"
    r"void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\s*\(")


def kernels_of(text):
    """Names in order; every __global__ must be one that this understands."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    names = KERNEL.findall(code)
    if len(names) != len(re.findall(r"\b__global__\b", code)):
        raise ValueError("a __global__ function whose name cannot be told")
    return names


def main():
    out, *files = sys.argv[1:]
    names = []
    for file in files:
        try:
            names += kernels_of(pathlib.Path(file).read_text(encoding="utf-8"))
        except ValueError as error:
            sys.exit(f"{file}: {error}")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        sys.exit(f"kernels of one name cannot be told apart in the launch log: {duplicates}")
    lines = "".join(f'      "{name}",\n' for name in sorted(names))
    pathlib.Path(out).write_text(
        '#include "tests/cuda_host/known_kernels.h"\n\n'
        "namespace moed::cuda_host {\n\n"
        "std::vector<std::string> KnownKernels() {\n"
        f"  return {{\n{lines}  }};\n"
        "}\n\n}  // namespace moed::cuda_host\n", encoding="utf-8")


if __name__ == "__main__":
    main()

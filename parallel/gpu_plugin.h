// Opens a GPU plugin at run time, so that one program serves machines with and without a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "parallel/gpu_platform.h"

namespace moed {

// Grows whenever anything that crosses the border changes: gpu_platform.h, the seams, and the
// structs of kernels/core.
inline constexpr uint32_t kGpuPluginAbi = 1;

// What the plugin's entry points at. The first two fields stay where they are for ever.
struct GpuPluginEntry {
  uint32_t abi = kGpuPluginAbi;
  const char* version = "";  // of moed
  // Never null and never fails: a machine without a GPU is found out by ListDevices.
  GpuPlatform* (*create)() = nullptr;  // the caller owns it
};

// extern "C" const moed::GpuPluginEntry* moed_gpu_plugin();
inline constexpr char kGpuPluginSymbol[] = "moed_gpu_plugin";

// Loads the library and keeps it for the life of the process. NOT_FOUND where there is no such
// file; FAILED_PRECONDITION, with the loader's words, where a library that it needs is missing or
// it has another ABI, with both numbers, or no entry.
absl::StatusOr<std::unique_ptr<GpuPlatform>> OpenGpuPlugin(const std::string& path);

// Where the plugin of a program in this folder lies: libmoed_cuda.so beside it, in ../lib/moed, or,
// in a build tree, in parallel/cuda of it: one or two folders up. The first that exists, else the
// first.
std::string GpuPluginPathFor(const std::string& program_folder);

// Of this program.
std::string DefaultGpuPluginPath();

}  // namespace moed

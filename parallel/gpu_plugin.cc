#include "parallel/gpu_plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace moed {
namespace {

namespace fs = std::filesystem;

constexpr char kPluginFile[] = "libmoed_cuda.so";

absl::Status Unusable(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("the GPU plugin ", path, " ", why));
}

std::string LoaderText() {
  const char* text = dlerror();
  return text != nullptr ? text : "for a reason that the loader does not give";
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuPlatform>> OpenGpuPlugin(const std::string& path) {
  std::error_code error;
  const std::string absolute = fs::absolute(path, error).string();
  if (error || !fs::exists(absolute, error)) {
    return absl::NotFoundError(absl::StrCat("there is no GPU plugin ", path));
  }
  // Never closed: what it made may live as long as the process, and so may its libraries' threads.
  void* library = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Unusable(absolute, absl::StrCat("cannot be loaded: ", LoaderText()));
  }
  using EntryPoint = const GpuPluginEntry* (*)();
  const auto entry_point = reinterpret_cast<EntryPoint>(dlsym(library, kGpuPluginSymbol));
  if (entry_point == nullptr) return Unusable(absolute, absl::StrCat("has no ", kGpuPluginSymbol));
  const GpuPluginEntry* entry = entry_point();
  if (entry->abi != kGpuPluginAbi) {
    return Unusable(absolute, absl::StrCat("(moed ", entry->version, ") has ABI ", entry->abi,
                                           ", this program ", kGpuPluginAbi,
                                           ": install both from one release"));
  }
  return std::unique_ptr<GpuPlatform>(entry->create());
}

std::string GpuPluginPathFor(const std::string& program_folder) {
  std::error_code error;
  const fs::path folder = program_folder;
  // moed is built in server/, its benchmarks in tests/bench/.
  for (const char* place : {"", "../lib/moed", "../parallel/cuda", "../../parallel/cuda"}) {
    const fs::path candidate = folder / place / kPluginFile;
    if (fs::exists(candidate, error)) return candidate.lexically_normal().string();
  }
  return (folder / kPluginFile).string();
}

std::string DefaultGpuPluginPath() {
  std::error_code error;
  return GpuPluginPathFor(fs::read_symlink("/proc/self/exe", error).parent_path().string());
}

}  // namespace moed

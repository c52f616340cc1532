// Fuzzes a whole safetensors file: what opens has tensors that lie within it, cover it exactly and
// can be loaded. Input: the file.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "runtime/checkpoint/safetensors_file.h"

namespace {

// Reads every byte of a tensor, so that a mapping past the file's end is found.
uint64_t Touch(const moed::LoadedTensor& tensor) {
  const auto* bytes = static_cast<const uint8_t*>(tensor.view.raw());
  uint64_t sum = 0;
  for (int64_t i = 0; i < tensor.view.bytes(); ++i) sum += bytes[i];
  return sum;
}

void CheckFile(const moed::SafetensorsFile& file) {
  volatile uint64_t sum = 0;
  for (const auto& [name, entry] : file.header().tensors) {
    MOED_CHECK(entry.begin >= 0 && entry.begin <= entry.end, "a tensor's range is one");
    const bool loadable =
        entry.dtype && !entry.shape.empty() && entry.shape.size() <= 4 &&
        std::none_of(entry.shape.begin(), entry.shape.end(), [](int64_t dim) { return dim == 0; });
    if (!loadable) continue;
    const auto tensor = file.Load(name, entry.shape);
    MOED_CHECK(tensor.ok(), "a tensor of a checked file loads");
    MOED_CHECK(tensor->view.bytes() == entry.end - entry.begin, "a tensor has its range's size");
    sum = sum + Touch(*tensor);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int kDescriptor = memfd_create("fuzz", MFD_CLOEXEC);
  MOED_CHECK(kDescriptor >= 0 && ftruncate(kDescriptor, 0) == 0 &&
                 pwrite(kDescriptor, data, size, 0) == static_cast<ssize_t>(size),
             "a file in memory");
  const auto file = moed::SafetensorsFile::Open(absl::StrCat("/proc/self/fd/", kDescriptor));
  if (file.ok()) {
    CheckFile(*file);
  } else {
    MOED_CHECK(!file.status().message().empty(), "an error has a text");
  }
  return 0;
}

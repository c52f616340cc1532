// Fuzzes model.safetensors.index.json: no shard's name leads out of the directory. Input: the JSON
// text.
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/core/check.h"
#include "runtime/checkpoint/checkpoint_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view json(reinterpret_cast<const char*>(data), size);
  const auto index = moed::ParseCheckpointIndex(json, "index.json");
  if (!index.ok()) return 0;
  for (const std::string& shard : index->shards) {
    MOED_CHECK(!shard.empty() && shard[0] != '.', "a shard's name is no hidden file or parent");
    MOED_CHECK(shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos,
               "a shard's name has no separator");
  }
  MOED_CHECK(!index->shard_of.empty(), "an index names tensors");
  for (const auto& [name, shard] : index->shard_of) {
    MOED_CHECK(shard >= 0 && shard < static_cast<int>(index->shards.size()), "a shard is known");
  }
  MOED_CHECK(index->total_size_bytes.value_or(0) >= 0, "a size is not negative");
  return 0;
}

// Fuzzes the key file: what it says is taken whole or refused with a line's number, and nothing
// that it holds is in the error. Input: the file.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "kernels/core/check.h"
#include "server/security/key_ring.h"

namespace {

void CheckRefusal(const absl::Status& status) {
  MOED_CHECK(status.code() == absl::StatusCode::kInvalidArgument, "a bad file is the file's fault");
  // Our own sentences: no character of them comes from the file but the digits of the line.
  const absl::string_view text = status.message();
  MOED_CHECK(absl::StartsWith(text, "line ") || text == "it holds no key", "the line is named");
  MOED_CHECK(text.size() < 100, "no text of the file is in it");
  for (const char c : text) MOED_CHECK(c >= ' ' && c <= '~', "no byte of the file is in it");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entries = moed::ParseKeyFile(text);
  if (!entries.ok()) {
    CheckRefusal(entries.status());
    return 0;
  }
  MOED_CHECK(!entries->empty(), "a file without keys is refused");
  std::set<std::string> names;
  std::set<moed::KeyHash> hashes;
  for (const moed::KeyEntry& entry : *entries) {
    MOED_CHECK(entry.role <= moed::Role::kAdmin, "a role is one of three");
    MOED_CHECK(!entry.name.empty() && entry.name.size() <= 64, "a name is short");
    for (const char c : entry.name) MOED_CHECK(c > ' ' && c <= '~' && c != '#', "a name is plain");
    MOED_CHECK(names.insert(entry.name).second, "a name is one key's");
    MOED_CHECK(hashes.insert(entry.hash).second, "a key has one role");
  }
  return 0;
}

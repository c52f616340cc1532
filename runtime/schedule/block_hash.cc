#include "runtime/schedule/block_hash.h"

#include <openssl/sha.h>

#include <cstddef>
#include <cstring>

namespace moed {
namespace {

BlockHash HashBytes(absl::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  BlockHash hash;
  std::memcpy(hash.words.data(), digest.data(), sizeof(hash.words));
  return hash;
}

void Append(const void* data, size_t size, std::string* bytes) {
  bytes->append(static_cast<const char*>(data), size);
}

}  // namespace

BlockHash RootHash(int32_t experts_per_token, absl::string_view salt) {
  std::string bytes = "moed root";
  Append(&experts_per_token, sizeof(experts_per_token), &bytes);
  bytes.append(salt.data(), salt.size());
  return HashBytes(bytes);
}

BlockHash NextHash(const BlockHash& parent, absl::Span<const int32_t> tokens) {
  std::string bytes;
  bytes.reserve(sizeof(parent.words) + tokens.size() * sizeof(tokens[0]));
  Append(parent.words.data(), sizeof(parent.words), &bytes);
  Append(tokens.data(), tokens.size() * sizeof(tokens[0]), &bytes);
  return HashBytes(bytes);
}

}  // namespace moed

#include "server/security/key_ring.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "server/security/config_file.h"

namespace moed {
namespace {

constexpr size_t kMaxNameLength = 64;

KeyHash Sha256(absl::string_view bytes) {
  KeyHash hash = {};
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), hash.data(), nullptr, EVP_sha256(), nullptr);
  MOED_CHECK(done == 1, "SHA-256 is there");
  return hash;
}

std::optional<Role> ParseRole(absl::string_view text) {
  if (text == "user") return Role::kUser;
  if (text == "monitor") return Role::kMonitor;
  if (text == "admin") return Role::kAdmin;
  return std::nullopt;
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxNameLength &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

std::optional<KeyHash> ParseHash(absl::string_view text) {
  KeyHash hash = {};
  if (!absl::ConsumePrefix(&text, "sha256:") || text.size() != 2 * hash.size() ||
      !std::all_of(text.begin(), text.end(),
                   [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); })) {
    return std::nullopt;
  }
  const std::string bytes = absl::HexStringToBytes(text);
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

// The line's fields are not in the error: one of them may be a key that was put there by mistake.
absl::StatusOr<KeyEntry> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> fields =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (fields.size() != 3) return absl::InvalidArgumentError("a line is ROLE NAME sha256:HEX");
  const std::optional<Role> role = ParseRole(fields[0]);
  if (!role) return absl::InvalidArgumentError("the role must be user, monitor or admin");
  if (!IsName(fields[1])) {
    return absl::InvalidArgumentError("the name must be 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  const std::optional<KeyHash> hash = ParseHash(fields[2]);
  if (!hash) return absl::InvalidArgumentError("the key must be sha256: and 64 hexadecimal digits");
  return KeyEntry{std::string(fields[1]), *role, *hash};
}

}  // namespace

absl::StatusOr<std::vector<KeyEntry>> ParseKeyFile(absl::string_view text) {
  const KeyHash empty_key = Sha256("");
  std::vector<KeyEntry> entries;
  std::set<std::string> names;
  std::set<KeyHash> hashes;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    absl::StatusOr<KeyEntry> entry = ParseLine(line);
    absl::string_view problem;
    if (!entry.ok()) {
      problem = entry.status().message();
    } else if (entry->hash == empty_key) {
      problem = "this is the hash of an empty key";
    } else if (!names.insert(entry->name).second) {
      problem = "an earlier line has this name";
    } else if (!hashes.insert(entry->hash).second) {
      problem = "an earlier line has this key";
    }
    if (!problem.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", line_number, ": ", problem));
    }
    entries.push_back(*std::move(entry));
  }
  if (entries.empty()) return absl::InvalidArgumentError("it holds no key");
  return entries;
}

absl::StatusOr<std::shared_ptr<KeyRing>> KeyRing::Load(const std::string& path) {
  std::shared_ptr<KeyRing> keys(new KeyRing(path));
  MOED_RETURN_IF_ERROR(keys->Reload());
  return keys;
}

absl::Status KeyRing::Reload() {
  const auto in_file = [this](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat("key file ", path_, ": ", status.message()));
  };
  const absl::StatusOr<std::string> text = ReadConfigFile(path_, FileTrust::kOwnerWrites);
  if (!text.ok()) return in_file(text.status());
  absl::StatusOr<std::vector<KeyEntry>> parsed = ParseKeyFile(*text);
  if (!parsed.ok()) return in_file(parsed.status());
  auto entries = std::make_shared<const std::vector<KeyEntry>>(*std::move(parsed));
  MutexLock lock(mutex_);
  entries_ = std::move(entries);
  return absl::OkStatus();
}

std::optional<Caller> KeyRing::Find(absl::string_view key) const {
  const std::shared_ptr<const std::vector<KeyEntry>> keys = entries();
  const KeyHash hash = Sha256(key);
  // To the end in any case: how long a refusal takes tells nothing of where a key stands.
  const KeyEntry* found = nullptr;
  for (const KeyEntry& entry : *keys) {
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  if (found == nullptr) return std::nullopt;
  return Caller{found->name, found->role};
}

size_t KeyRing::size() const { return entries()->size(); }

std::shared_ptr<const std::vector<KeyEntry>> KeyRing::entries() const {
  MutexLock lock(mutex_);
  return entries_;
}

}  // namespace moed

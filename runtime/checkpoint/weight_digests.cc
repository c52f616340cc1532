#include "runtime/checkpoint/weight_digests.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/read_only_file.h"

namespace moed {
namespace {

constexpr int64_t kMaxDigestFileBytes = int64_t{1} << 20;
constexpr int64_t kReadBytes = int64_t{16} << 20;
constexpr size_t kHexDigits = 64;

std::string Hex(const Sha256Digest& digest) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

absl::StatusOr<std::pair<std::string, Sha256Digest>> ParseLine(absl::string_view line,
                                                               const std::string& place) {
  const absl::string_view hex = line.substr(0, kHexDigits);
  const bool has_name = line.size() > kHexDigits + 2 && line[kHexDigits] == ' ' &&
                        (line[kHexDigits + 1] == ' ' || line[kHexDigits + 1] == '*');
  if (!has_name || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        place, ": expected 64 hexadecimal digits, two spaces and a file's name, found ",
        QuoteName(line)));
  }
  Sha256Digest digest;
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return std::make_pair(std::string(line.substr(kHexDigits + 2)), digest);
}

// The digest of a file that is read piece by piece.
class Hasher {
 public:
  Hasher() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    ok_ = context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }
  void Add(const std::string& bytes) {
    ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
  }
  absl::StatusOr<Sha256Digest> Finish() {
    Sha256Digest digest;
    if (!ok_ || EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) != 1) {
      return absl::InternalError("SHA-256 cannot be computed");
    }
    return digest;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
  bool ok_ = false;
};

}  // namespace

absl::StatusOr<std::map<std::string, Sha256Digest>> ParseDigestFile(absl::string_view text,
                                                                    const std::string& file) {
  std::map<std::string, Sha256Digest> digests;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty()) continue;
    const std::string place = absl::StrCat(file, ": line ", line_number);
    MOED_ASSIGN_OR_RETURN(auto entry, ParseLine(line, place));
    if (!digests.insert(std::move(entry)).second) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": this file has been named before"));
    }
  }
  return digests;
}

absl::Status VerifyDigests(const std::string& directory, const std::vector<std::string>& files,
                           const std::function<bool(double)>& progress) {
  const std::string digest_path = absl::StrCat(directory, "/", kDigestFile);
  std::error_code ignored;
  if (!std::filesystem::exists(digest_path, ignored)) return absl::OkStatus();
  MOED_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(digest_path, kMaxDigestFileBytes));
  MOED_ASSIGN_OR_RETURN(const auto digests, ParseDigestFile(text, digest_path));
  std::vector<ReadOnlyFile> opened;
  int64_t total_bytes = 0;
  for (const std::string& name : files) {
    if (!digests.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(digest_path, ": expected a digest of every file of weights, found none of ",
                       QuoteName(name)));
    }
    MOED_ASSIGN_OR_RETURN(ReadOnlyFile file,
                          ReadOnlyFile::Open(absl::StrCat(directory, "/", name)));
    total_bytes += file.bytes();  // of files that exist: far from 2^63
    opened.push_back(std::move(file));
  }
  int64_t read_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    Hasher hasher;
    for (int64_t offset = 0; offset < opened[i].bytes(); offset += kReadBytes) {
      const int64_t bytes = std::min(kReadBytes, opened[i].bytes() - offset);
      MOED_ASSIGN_OR_RETURN(const std::string piece, opened[i].Read(offset, bytes));
      hasher.Add(piece);
      read_bytes += bytes;
      if (!progress(static_cast<double>(read_bytes) / static_cast<double>(total_bytes))) {
        return absl::CancelledError("the start was cancelled");
      }
    }
    MOED_ASSIGN_OR_RETURN(const Sha256Digest found, hasher.Finish());
    const Sha256Digest& expected = digests.find(files[i])->second;
    if (found != expected) {
      return absl::DataLossError(absl::StrCat(opened[i].path(), ": expected the SHA-256 digest ",
                                              Hex(expected), ", found ", Hex(found)));
    }
  }
  return absl::OkStatus();
}

}  // namespace moed

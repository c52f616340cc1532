// A test-only program through which scripts ask the tokenizer: see oracle_test.py.
//
//   tokenizer_probe MODEL < requests > answers
//
// A request is one byte ('E' encode, 'D' decode), a little-endian uint32 count of payload bytes and
// the payload: a text, or token ids as int32. The answer to 'E' is a uint32 count of ids and, for
// each, int32 id, begin and end; to 'D', a uint32 count of bytes and the text. The host is little
// endian, as everything that moed runs on.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/tokenizer/tokenizer.h"

namespace {

bool Read(void* to, size_t num_bytes) { return std::fread(to, 1, num_bytes, stdin) == num_bytes; }

void Write(const void* from, size_t num_bytes) { std::fwrite(from, 1, num_bytes, stdout); }

void WriteInt(int64_t value) {
  const int32_t narrow = static_cast<int32_t>(value);
  Write(&narrow, sizeof(narrow));
}

void AnswerEncode(const moed::Tokenizer& tokenizer, const std::string& text) {
  const moed::Encoding encoding = tokenizer.EncodeWithOffsets(text);
  if (tokenizer.Encode(text) != encoding.ids) {
    WriteInt(-1);
    return;
  }
  WriteInt(static_cast<int64_t>(encoding.ids.size()));
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    WriteInt(encoding.ids[i]);
    WriteInt(encoding.spans[i].begin);
    WriteInt(encoding.spans[i].end);
  }
}

int AnswerDecode(const moed::Tokenizer& tokenizer, const std::string& payload) {
  std::vector<int32_t> ids(payload.size() / sizeof(int32_t));
  if (!ids.empty()) std::memcpy(ids.data(), payload.data(), ids.size() * sizeof(int32_t));
  const absl::StatusOr<std::string> text = tokenizer.Decode(ids);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", text.status().ToString().c_str());
    return 1;
  }
  WriteInt(static_cast<int64_t>(text->size()));
  Write(text->data(), text->size());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_probe MODEL\n");
    return 64;
  }
  const auto tokenizer = moed::Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 78;
  }
  char operation = 0;
  uint32_t num_bytes = 0;
  while (Read(&operation, 1) && Read(&num_bytes, sizeof(num_bytes))) {
    std::string payload(num_bytes, '\0');
    if (!Read(payload.data(), num_bytes)) return 65;
    if (operation == 'E') {
      AnswerEncode(**tokenizer, payload);
    } else if (AnswerDecode(**tokenizer, payload) != 0) {
      return 1;
    }
  }
  return 0;
}

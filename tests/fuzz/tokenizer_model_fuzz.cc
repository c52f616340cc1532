// Fuzzes the reader of tokenizer.model and, where it accepts a file, everything the tokenizer then
// does with it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/check.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = moed::Tokenizer::FromBytes(bytes, "fuzz.model");
  if (!tokenizer.ok()) {
    MOED_CHECK(tokenizer.status().message().substr(0, 12) == "fuzz.model: ", "names the file");
    return 0;
  }
  const std::string text = "  <s> hello hello\n日é\xFF\xE6\x97 [INST]aaaaaaaa ";
  const moed::Encoding encoding = (*tokenizer)->EncodeWithOffsets(text, {.add_bos = true});
  MOED_CHECK(encoding.ids.size() == encoding.spans.size(), "a span for each id");
  uint32_t previous_end = 0;
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    MOED_CHECK((*tokenizer)->Contains(encoding.ids[i]), "an id of the vocabulary");
    MOED_CHECK(i == 0 || !(*tokenizer)->IsControl(encoding.ids[i]), "text makes no control id");
    const moed::TextSpan span = encoding.spans[i];
    MOED_CHECK(previous_end <= span.begin && span.begin <= span.end, "spans ascend");
    previous_end = span.end;
  }
  MOED_CHECK(previous_end <= text.size(), "spans lie in the text");

  std::vector<int32_t> all((*tokenizer)->vocab_size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  for (const bool skip : {false, true}) {
    const auto decoded = (*tokenizer)->Decode(all, skip);
    MOED_CHECK(decoded.ok() && moed::IsValidUtf8(*decoded), "well-formed text");
  }
  return 0;
}

#include "server/http/body_reader.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace moed {
namespace {

// The number at the front of a chunk's header. False: none, or one that no body has.
bool ParseChunkSize(absl::string_view line, uint64_t* size) {
  constexpr size_t kMaxDigits = 15;
  size_t num_digits = 0;
  *size = 0;
  while (num_digits < line.size() && absl::ascii_isxdigit(line[num_digits])) {
    const char c = absl::ascii_tolower(line[num_digits]);
    *size = *size * 16 + static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    if (++num_digits > kMaxDigits) return false;
  }
  // Only an extension may follow.
  const absl::string_view rest = absl::StripLeadingAsciiWhitespace(line.substr(num_digits));
  return num_digits > 0 && (rest.empty() || rest.front() == ';');
}

bool HasControl(absl::string_view line) {
  return std::any_of(line.begin(), line.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c)) && c != '\t';
  });
}

}  // namespace

BodyReader BodyReader::OfLength(uint64_t length, const Limits& limits) {
  BodyReader reader(Part::kData, length, limits);
  if (length > limits.body_bytes) reader.state_ = State::kTooLong;
  if (length == 0) reader.state_ = State::kComplete;
  return reader;
}

BodyReader BodyReader::Chunked(const Limits& limits) {
  return BodyReader(Part::kChunkHeader, 0, limits);
}

BodyReader::State BodyReader::Read(absl::string_view* bytes, std::string* body) {
  while (state_ == State::kNeedsBytes && !bytes->empty()) {
    if (part_ == Part::kData) {
      state_ = ReadData(bytes, body);
      continue;
    }
    absl::string_view line;
    const State got_line = ReadLine(bytes, &line);
    if (got_line == State::kNeedsBytes) break;
    state_ = got_line;
    if (got_line != State::kComplete) break;
    if (framing_bytes_ > body->size() + limits_.line_bytes) {
      state_ = State::kTooLong;
    } else if (part_ == Part::kChunkHeader) {
      state_ = OnChunkHeader(line, body->size());
    } else if (part_ == Part::kDataEnd) {
      state_ = line.empty() ? State::kNeedsBytes : State::kMalformed;
      part_ = Part::kChunkHeader;
    } else if (!line.empty()) {
      state_ = line.find(':') == absl::string_view::npos ? State::kMalformed : State::kNeedsBytes;
    }
  }
  return state_;
}

BodyReader::State BodyReader::ReadData(absl::string_view* bytes, std::string* body) {
  const auto num_bytes = static_cast<size_t>(std::min<uint64_t>(remaining_, bytes->size()));
  body->append(bytes->data(), num_bytes);
  bytes->remove_prefix(num_bytes);
  remaining_ -= num_bytes;
  if (remaining_ > 0) return State::kNeedsBytes;
  if (!is_chunked_) return State::kComplete;
  part_ = Part::kDataEnd;
  return State::kNeedsBytes;
}

BodyReader::State BodyReader::ReadLine(absl::string_view* bytes, absl::string_view* line) {
  // After a chunk's data comes an end of line and nothing else: no need to look for it far away.
  if (part_ == Part::kDataEnd && !absl::StartsWith("\r\n", bytes->substr(0, 2))) {
    return State::kMalformed;
  }
  const size_t end = bytes->find('\n');
  if (std::min(end, bytes->size()) > limits_.line_bytes) return State::kLongLine;
  if (end == absl::string_view::npos) return State::kNeedsBytes;
  if (end == 0 || (*bytes)[end - 1] != '\r') return State::kMalformed;
  *line = bytes->substr(0, end - 1);
  bytes->remove_prefix(end + 1);
  framing_bytes_ += end + 1;
  return HasControl(*line) ? State::kMalformed : State::kComplete;
}

BodyReader::State BodyReader::OnChunkHeader(absl::string_view line, size_t body_bytes) {
  uint64_t size = 0;
  if (!ParseChunkSize(line, &size)) return State::kMalformed;
  if (size > limits_.body_bytes - body_bytes) return State::kTooLong;
  remaining_ = size;
  part_ = size > 0 ? Part::kData : Part::kTrailer;
  return State::kNeedsBytes;
}

}  // namespace moed

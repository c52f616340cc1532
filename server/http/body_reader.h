// Where a request's body ends, and what is in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace moed {

// One thread. Beast 1.74 could do this, but asserts on chunks that come byte by byte.
class BodyReader {
 public:
  enum class State {
    kNeedsBytes,
    kComplete,
    kTooLong,    // 413; more than the limit, or chunks of hardly anything but framing
    kLongLine,   // 431; a chunk's header or a trailer's field
    kMalformed,  // 400
  };

  struct Limits {
    size_t body_bytes = 0;
    size_t line_bytes = 0;  // and framing beyond as many bytes as the body has
  };

  // A body of that many bytes; of none where the request says nothing about one.
  static BodyReader OfLength(uint64_t length, const Limits& limits);
  // Transfer-Encoding: chunked. Extensions and trailers are passed over.
  static BodyReader Chunked(const Limits& limits);

  // Takes what it can from the front of `bytes` and appends what belongs to the body. Once it says
  // something else than kNeedsBytes it goes on saying so.
  State Read(absl::string_view* bytes, std::string* body);

 private:
  enum class Part { kData, kDataEnd, kChunkHeader, kTrailer };

  BodyReader(Part part, uint64_t remaining, const Limits& limits)
      : limits_(limits),
        is_chunked_(part == Part::kChunkHeader),
        part_(part),
        remaining_(remaining) {}

  State ReadData(absl::string_view* bytes, std::string* body);
  // A line without its end. kComplete: there is one.
  State ReadLine(absl::string_view* bytes, absl::string_view* line);
  State OnChunkHeader(absl::string_view line, size_t body_bytes);

  Limits limits_;
  bool is_chunked_;
  Part part_;
  uint64_t remaining_;  // of the data, or of the chunk
  uint64_t framing_bytes_ = 0;
  State state_ = State::kNeedsBytes;
};

}  // namespace moed

// What is known of a request when it has ended: what metrics and the access log are made of. No
// text of it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moed {

struct RequestRecord {
  const char* method = "";  // "StreamGenerate", "Generate", "Tokenize", ...
  std::string request_id;   // empty where it was refused before it had one, and for other methods
  std::string client;       // Caller::client; empty before that is known
  absl::Status status;      // what the client got
  std::string reason;       // ErrorInfo's, or empty
  bool admitted = false;    // the engine took it: the fields below say something

  const char* finish_reason = "";  // of the last continuation: "stop", "length", "time_limit";
                                   // empty where the status is not OK
  int32_t num_choices = 1;
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t completion_tokens = 0;   // of all continuations
  double queue_seconds = 0;        // submit to first scheduled; 0 where it never was
  double first_token_seconds = 0;  // submit to the first delta; 0 where there was none
  double total_seconds = 0;        // of the call, from its arrival
  int32_t preemptions = 0;
  bool client_cancelled = false;  // the client went away or cancelled
  bool slow_reader = false;       // cut off, as it did not read
};

}  // namespace moed

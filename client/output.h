// What commands print.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/text_style.h"
#include "google/protobuf/message.h"
#include "moed/v1/generation.pb.h"

namespace moed {

// One line of JSON with the proto's field names; fields without presence are printed too.
void PrintJson(const google::protobuf::Message& message);

// At once, so that streamed text is seen as it comes.
void PrintText(absl::string_view text);

// On stderr: "moedctl: INVALID_ARGUMENT: sampling.top_p ...", and what the details say; one line of
// JSON (google.rpc.Status) with `json`.
void PrintError(const absl::Status& status, bool json);

// On stderr: "[5 prompt tokens, 40 tokens, LENGTH; first token after 9.8 ms, then 1.00 ms each; 2
// experts a token]", and preemptions and dropped pairs where there were some.
void PrintStats(const v1::GenerationFinish& finish);

// Whether stdout is a terminal that wants colour (https://no-color.org), and how wide it is.
TextStyle StdoutStyle();

// All of standard input.
std::string ReadStandardInput();

}  // namespace moed

// What a call's error says to people and to programs.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"

namespace moed {

// The code, the text and the google.rpc details as the daemon sent them (grpc-status-details-bin).
// Details that cannot be read are left out; code and text are the status's own.
absl::Status WithDetails(absl::Status status, absl::string_view details);

// "INVALID_ARGUMENT: sampling.top_p must be ..." and below it, a line each, what the details add:
// reason, fields, when to try again.
std::string FormatError(const absl::Status& status);

// The same as one message, for JSON.
google::rpc::Status ErrorMessage(const absl::Status& status);

}  // namespace moed

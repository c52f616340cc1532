// How moedctl ends: the numbers of BSD's sysexits.h.
#pragma once

#include "absl/status/status.h"

namespace moed {

inline constexpr int kExitUsage = 64;

constexpr int ClientExitCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return 65;
    case absl::StatusCode::kUnavailable:
      return 69;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      return 75;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 77;
    default:
      return 70;
  }
}

}  // namespace moed

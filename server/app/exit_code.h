// How the daemon ends: the numbers of BSD's sysexits.h, so that a supervisor can act on them.
#pragma once

#include "absl/status/status.h"

namespace moed {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;        // the command line
inline constexpr int kExitUnavailable = 69;  // too little memory, a port that is taken
inline constexpr int kExitSoftware = 70;     // our bug
inline constexpr int kExitRankFailed = 75;   // restart me
inline constexpr int kExitConfig = 78;       // a bad checkpoint or configuration

// For an error while starting.
constexpr int ExitCodeOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kResourceExhausted:
      return kExitUnavailable;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
      return kExitRankFailed;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kPermissionDenied:
      return kExitConfig;
    default:
      return kExitSoftware;
  }
}

}  // namespace moed

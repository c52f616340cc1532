// What an error tells a program besides its code and text: google.rpc details, carried by the
// status as payloads until a front end puts them on the wire.
#pragma once

#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"

namespace moed {

// Reasons of ErrorInfo; docs/errors.md lists them with what to do.
inline constexpr absl::string_view kReasonQueueFull = "QUEUE_FULL";
inline constexpr absl::string_view kReasonClientLimit = "CLIENT_LIMIT";
inline constexpr absl::string_view kReasonSlowReader = "SLOW_READER";
inline constexpr absl::string_view kReasonPromptTooLong = "PROMPT_TOO_LONG";
inline constexpr absl::string_view kReasonMessageTooLarge = "MESSAGE_TOO_LARGE";
inline constexpr absl::string_view kReasonLoading = "LOADING";
inline constexpr absl::string_view kReasonDraining = "DRAINING";
inline constexpr absl::string_view kReasonRankFailed = "RANK_FAILED";
inline constexpr absl::string_view kReasonKeyMissing = "KEY_MISSING";
inline constexpr absl::string_view kReasonKeyInvalid = "KEY_INVALID";
inline constexpr absl::string_view kReasonRoleRequired = "ROLE_REQUIRED";
inline constexpr absl::string_view kReasonFeatureOff = "FEATURE_OFF";

// INVALID_ARGUMENT, "<field> <description>", with a BadRequest that names the field.
absl::Status FieldError(absl::string_view field, absl::string_view description);
// The same for an error whose text names the field already: the status with a BadRequest.
absl::Status WithField(absl::Status status, absl::string_view field, absl::string_view description);

// The status with an ErrorInfo {reason, "moed", metadata}; one that is OK stays OK.
absl::Status WithReason(
    absl::Status status, absl::string_view reason,
    std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata = {});

// The status with a RetryInfo. gRPC also gets it as grpc-retry-pushback-ms (gRFC A6).
absl::Status WithRetryAfter(absl::Status status, std::chrono::milliseconds delay);

// What WithRetryAfter and WithReason put there.
std::optional<std::chrono::milliseconds> RetryAfter(const absl::Status& status);
std::string ReasonOf(const absl::Status& status);  // empty without one

// Code, text and details for the wire.
google::rpc::Status ToRpcStatus(const absl::Status& status);

}  // namespace moed

#include "server/errors/error_details.h"

#include <chrono>

#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::milliseconds;

TEST(ErrorDetailsTest, AFieldErrorNamesTheFieldTwice) {
  const absl::Status status = FieldError("sampling.n", "must be in [1, 16], got 17");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "sampling.n must be in [1, 16], got 17");
  const google::rpc::Status rpc_status = ToRpcStatus(status);
  EXPECT_EQ(rpc_status.code(), 3);
  EXPECT_EQ(rpc_status.message(), status.message());
  ASSERT_EQ(rpc_status.details_size(), 1);
  EXPECT_EQ(rpc_status.details(0).type_url(), "type.googleapis.com/google.rpc.BadRequest");
  google::rpc::BadRequest detail;
  ASSERT_TRUE(rpc_status.details(0).UnpackTo(&detail));
  ASSERT_EQ(detail.field_violations_size(), 1);
  EXPECT_EQ(detail.field_violations(0).field(), "sampling.n");
  EXPECT_EQ(detail.field_violations(0).description(), "must be in [1, 16], got 17");
}

TEST(ErrorDetailsTest, ReasonAndRetryStandBesideEachOther) {
  absl::Status status = absl::ResourceExhaustedError("full");
  EXPECT_EQ(ReasonOf(status), "");
  EXPECT_FALSE(RetryAfter(status).has_value());
  status =
      WithRetryAfter(WithReason(status, kReasonQueueFull, {{"limit", "7"}}), milliseconds(1250));
  EXPECT_EQ(status.message(), "full");
  EXPECT_EQ(ReasonOf(status), "QUEUE_FULL");
  EXPECT_EQ(RetryAfter(status), milliseconds(1250));
  const google::rpc::Status rpc_status = ToRpcStatus(status);
  ASSERT_EQ(rpc_status.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(rpc_status.details(0).UnpackTo(&info));
  EXPECT_EQ(info.domain(), "moed");
  EXPECT_EQ(info.metadata().at("limit"), "7");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(rpc_status.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 250000000);
}

TEST(ErrorDetailsTest, TheLastReasonCounts) {
  const absl::Status status =
      WithReason(WithReason(absl::UnavailableError("x"), kReasonLoading), kReasonDraining);
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  EXPECT_EQ(ToRpcStatus(status).details_size(), 1);
}

TEST(ErrorDetailsTest, WhatIsOkHasNone) {
  EXPECT_EQ(WithReason(absl::OkStatus(), kReasonLoading), absl::OkStatus());
  EXPECT_EQ(WithRetryAfter(absl::OkStatus(), milliseconds(1)), absl::OkStatus());
  EXPECT_EQ(WithField(absl::OkStatus(), "x", "y"), absl::OkStatus());
  EXPECT_EQ(ToRpcStatus(absl::OkStatus()).details_size(), 0);
}

}  // namespace
}  // namespace moed

#include "client/error_text.h"

#include <string>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

// What the wire carries for a status with this detail.
template <typename Detail>
std::string Wire(const Detail& detail) {
  google::rpc::Status status;
  status.add_details()->PackFrom(detail);
  return status.SerializeAsString();
}

TEST(ErrorTextTest, SaysCodeAndTextWhereThereAreNoDetails) {
  const absl::Status status = absl::UnavailableError("loading");
  EXPECT_EQ(FormatError(status), "UNAVAILABLE: loading");
  EXPECT_EQ(FormatError(WithDetails(status, "")), "UNAVAILABLE: loading");
  EXPECT_EQ(FormatError(WithDetails(status, "\xff no message")), "UNAVAILABLE: loading");
}

TEST(ErrorTextTest, SaysTheReasonWithItsFigures) {
  google::rpc::ErrorInfo info;
  info.set_reason("QUEUE_FULL");
  (*info.mutable_metadata())["limit"] = "1024";
  (*info.mutable_metadata())["actual"] = "1025";
  EXPECT_EQ(FormatError(WithDetails(absl::ResourceExhaustedError("the queue is full"), Wire(info))),
            "RESOURCE_EXHAUSTED: the queue is full\n"
            "  reason: QUEUE_FULL (actual 1025, limit 1024)");
}

TEST(ErrorTextTest, SaysWhenToTryAgain) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(1);
  info.mutable_retry_delay()->set_nanos(500'000'000);
  EXPECT_EQ(FormatError(WithDetails(absl::UnavailableError("full"), Wire(info))),
            "UNAVAILABLE: full\n  try again in 1.5 s");
}

TEST(ErrorTextTest, NamesFieldsAndWhatTheTextDoesNotSayOfThem) {
  google::rpc::BadRequest request;
  auto* violation = request.add_field_violations();
  violation->set_field("sampling.top_p");
  violation->set_description("must be in (0, 1], got 2");
  violation = request.add_field_violations();
  violation->set_field("text");
  violation->set_description("is too long");
  EXPECT_EQ(
      FormatError(WithDetails(absl::InvalidArgumentError("sampling.top_p must be in (0, 1], got 2"),
                              Wire(request))),
      "INVALID_ARGUMENT: sampling.top_p must be in (0, 1], got 2\n"
      "  field: sampling.top_p\n"
      "  field: text is too long");
}

TEST(ErrorTextTest, IsOneMessageForPrograms) {
  google::rpc::ErrorInfo info;
  info.set_reason("DRAINING");
  const google::rpc::Status message =
      ErrorMessage(WithDetails(absl::UnavailableError("no"), Wire(info)));
  EXPECT_EQ(message.code(), 14);
  EXPECT_EQ(message.message(), "no");
  ASSERT_EQ(message.details_size(), 1);
  google::rpc::ErrorInfo same;
  ASSERT_TRUE(message.details(0).UnpackTo(&same));
  EXPECT_EQ(same.reason(), "DRAINING");
}

}  // namespace
}  // namespace moed

// Every number that a request may have, found by reflection, with the values that no number may
// have. A field that is new in the contract is held to it without being named here.
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/admission/request_validator.h"
#include "server/errors/error_details.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A field of a group of parameters: "sampling.top_p".
struct NumberField {
  const FieldDescriptor* group;
  const FieldDescriptor* field;

  std::string path() const { return group->name() + "." + field->name(); }
};

std::vector<NumberField> FieldsOf(FieldDescriptor::CppType type) {
  std::vector<NumberField> fields;
  const auto* request = v1::GenerateRequest::descriptor();
  for (const char* name :
       {"token_ids", "sampling", "stopping", "response", "moe", "scheduling", "cache"}) {
    const FieldDescriptor* group = request->FindFieldByName(name);
    for (int i = 0; i < group->message_type()->field_count(); ++i) {
      const FieldDescriptor* field = group->message_type()->field(i);
      if (!field->is_map() && field->cpp_type() == type) fields.push_back({group, field});
    }
  }
  return fields;
}

class NumberFieldsTest : public ::testing::Test {
 protected:
  // The group of a request that is fine without it.
  Message* Group(const NumberField& number) {
    request_.Clear();
    request_.mutable_token_ids()->add_ids(5);
    return request_.GetReflection()->MutableMessage(&request_, number.group);
  }

  // The field at fault, as a program finds it; "" where the request is fine.
  std::string FieldAtFault() const {
    const absl::Status status = validator_.Admit(request_, *model_).status();
    if (status.ok()) return "";
    google::rpc::BadRequest detail;
    const google::rpc::Status rpc_status = ToRpcStatus(status);
    for (const google::protobuf::Any& any : rpc_status.details()) {
      if (any.UnpackTo(&detail)) return detail.field_violations(0).field();
    }
    return "none named: " + status.ToString();
  }

  std::shared_ptr<ServedModel> model_ = MakeServedModel();
  RequestValidator validator_{{}, [] { return 7; }};
  v1::GenerateRequest request_;
};

TEST_F(NumberFieldsTest, NoFloatIsNotANumberOrInfinite) {
  const std::vector<NumberField> fields = FieldsOf(FieldDescriptor::CPPTYPE_FLOAT);
  EXPECT_EQ(fields.size(), 7U);
  for (const NumberField& number : fields) {
    Message* group = Group(number);
    for (const float value :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max(),
          std::numeric_limits<float>::lowest()}) {
      group->GetReflection()->SetFloat(group, number.field, value);
      EXPECT_EQ(FieldAtFault(), number.path()) << value;
    }
  }
}

TEST_F(NumberFieldsTest, NoBiasIsNotANumberOrInfinite) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity(), 1e30F, -1e30F}) {
    request_.Clear();
    request_.mutable_token_ids()->add_ids(5);
    (*request_.mutable_sampling()->mutable_logit_bias())[9] = value;
    EXPECT_EQ(FieldAtFault(), "sampling.logit_bias[9]") << value;
  }
}

TEST_F(NumberFieldsTest, NoSignedNumberIsFarBelowZero) {
  std::vector<NumberField> fields = FieldsOf(FieldDescriptor::CPPTYPE_INT32);
  EXPECT_EQ(fields.size(), 9U);
  // Priorities have a sign.
  const std::set<std::string> may_be_minus_one = {"scheduling.priority"};
  for (const NumberField& number : fields) {
    Message* group = Group(number);
    // What arrives where a client sends 2^31 is the second.
    for (const int32_t value : {-1000, std::numeric_limits<int32_t>::min()}) {
      group->GetReflection()->SetInt32(group, number.field, value);
      EXPECT_EQ(FieldAtFault(), number.path()) << value;
    }
    group->GetReflection()->SetInt32(group, number.field, -1);
    EXPECT_EQ(FieldAtFault(), may_be_minus_one.contains(number.path()) ? "" : number.path());
  }
  fields = FieldsOf(FieldDescriptor::CPPTYPE_INT64);
  EXPECT_EQ(fields.size(), 1U);
  for (const NumberField& number : fields) {
    Message* group = Group(number);
    for (const int64_t value : {int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
      group->GetReflection()->SetInt64(group, number.field, value);
      EXPECT_EQ(FieldAtFault(), number.path()) << value;
    }
  }
}

TEST_F(NumberFieldsTest, NoTokenIdLiesBeyondTheVocabulary) {
  const std::vector<NumberField> fields = FieldsOf(FieldDescriptor::CPPTYPE_UINT32);
  EXPECT_EQ(fields.size(), 3U);
  for (const NumberField& number : fields) {
    ASSERT_TRUE(number.field->is_repeated()) << number.path() << ": is it a token id?";
    for (const uint32_t value : {uint32_t{kTestVocab}, uint32_t{1} << 31, 0xffffffffU}) {
      Message* group = Group(number);
      group->GetReflection()->ClearField(group, number.field);
      group->GetReflection()->AddUInt32(group, number.field, kTestVocab - 1);
      EXPECT_EQ(FieldAtFault(), "");
      group->GetReflection()->AddUInt32(group, number.field, value);
      EXPECT_EQ(FieldAtFault(), number.path() + "[1]") << value;
    }
  }
}

}  // namespace
}  // namespace moed

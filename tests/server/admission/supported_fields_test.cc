// Every field of the contract works. The fields are found by reflection: one that is new in the
// contract is refused by name, and fails here, until it is on the list.
#include "server/admission/supported_fields.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"
#include "server/admission/request_validator.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Sets a scalar or adds one element, so that the field is present, to a value in every range.
void SetField(Message* message, const FieldDescriptor* field) {
  const Reflection* reflection = message->GetReflection();
  if (field->is_map()) {
    Message* entry = reflection->AddMessage(message, field);
    const auto* value = entry->GetDescriptor()->FindFieldByName("value");
    entry->GetReflection()->SetFloat(entry, value, 1.0F);
    return;
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->SetFloat(message, field, 1.0F);
    case FieldDescriptor::CPPTYPE_INT32:
      // There is one rank.
      return reflection->SetInt32(message, field, field->name() == "home_rank" ? 0 : 1);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->SetInt64(message, field, 1);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->SetUInt64(message, field, 1);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->SetBool(message, field, true);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->AddUInt32(message, field, 1);
    case FieldDescriptor::CPPTYPE_STRING:
      if (!field->is_repeated()) return reflection->SetString(message, field, "x");
      return reflection->AddString(message, field, "x");
    default:
      FAIL() << "no value for a field of this type: " << field->full_name();
  }
}

struct Case {
  std::string path;
  v1::GenerateRequest request;
};

// A valid request for each field of each group of parameters, with that field set.
std::vector<Case> AllCases() {
  std::vector<Case> cases;
  const auto* descriptor = v1::GenerateRequest::descriptor();
  for (const char* group : {"sampling", "stopping", "response", "moe", "scheduling", "cache"}) {
    const FieldDescriptor* group_field = descriptor->FindFieldByName(group);
    for (int i = 0; i < group_field->message_type()->field_count(); ++i) {
      const FieldDescriptor* field = group_field->message_type()->field(i);
      Case one;
      one.path = std::string(group) + "." + field->name();
      one.request.mutable_token_ids()->add_ids(5);
      SetField(one.request.GetReflection()->MutableMessage(&one.request, group_field), field);
      cases.push_back(std::move(one));
    }
  }
  return cases;
}

TEST(SupportedFieldsTest, EveryFieldWorks) {
  const auto model = MakeServedModel();
  RequestLimits limits;
  limits.routed_experts = true;
  const RequestValidator validator(limits, [] { return 7; });
  const std::vector<Case> cases = AllCases();
  EXPECT_EQ(cases.size(), 32U) << "the contract has changed: is the new field's outcome right?";
  for (const Case& one : cases) {
    const absl::Status status = validator.Admit(one.request, *model).status();
    EXPECT_TRUE(status.ok()) << one.path << ": " << status;
  }
}

TEST(SupportedFieldsTest, TheRequestHasNoOtherFields) {
  std::set<std::string> names;
  for (int i = 0; i < v1::GenerateRequest::descriptor()->field_count(); ++i) {
    names.insert(v1::GenerateRequest::descriptor()->field(i)->name());
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"request_id", "model", "text", "token_ids", "chat", "sampling",
                                   "stopping", "response", "moe", "scheduling", "cache"}));
}

// The daemon parses both as one: they must not drift apart.
TEST(SupportedFieldsTest, TheStreamsRequestHasTheSameFieldsAndNumbers) {
  const auto* unary = v1::GenerateRequest::descriptor();
  const auto* stream = v1::StreamGenerateRequest::descriptor();
  ASSERT_EQ(unary->field_count(), stream->field_count());
  for (int i = 0; i < unary->field_count(); ++i) {
    const FieldDescriptor* field = unary->field(i);
    const FieldDescriptor* twin = stream->FindFieldByNumber(field->number());
    ASSERT_NE(twin, nullptr) << field->name();
    EXPECT_EQ(field->name(), twin->name());
    EXPECT_EQ(field->type(), twin->type()) << field->name();
    EXPECT_EQ(field->message_type(), twin->message_type()) << field->name();
  }
}

}  // namespace
}  // namespace moed

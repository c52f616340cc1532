// Who may call what: each method with each kind of key.
#include "server/rpc/call_gate.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "moed/v1/admin.pb.h"
#include "moed/v1/experts.pb.h"
#include "moed/v1/model.pb.h"
#include "moed/v1/tokenizer.pb.h"
#include "server/errors/error_details.h"
#include "tests/server/security/test_certificates.h"
#include "tests/server/support/grpc_test_server.h"

namespace moed {
namespace {

// Of "user-key", "monitor-key" and "admin-key".
constexpr char kKeyFile[] =
    "user alice sha256:0845e3658edc1c91bfc9d172eeae3e60417056b1b7fe9909c00e05023adb7f1d\n"
    "monitor prometheus sha256:049831838290b1c9f0fdad80099312626185efb2ed0360deab6b5b96f6dccf72\n"
    "admin root sha256:69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e\n";

// The least that lets a call in; what it then says of the empty request is its own affair.
struct Method {
  std::string path;
  Access access;
};

// Every method of the contract, by reflection: a new one is asked for like the rest of its service.
std::vector<Method> AllMethods() {
  std::vector<Method> methods;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(), v1::TokenizeRequest::descriptor()->file(),
        v1::GetModelRequest::descriptor()->file(), v1::GetExpertLoadRequest::descriptor()->file(),
        v1::DrainRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        const google::protobuf::MethodDescriptor* method = file->service(i)->method(j);
        Access access = Access::kGenerate;
        if (file->service(i)->name() == "ExpertService") access = Access::kMonitor;
        if (file->service(i)->name() == "AdminService") {
          const bool is_read = method->name() == "ListRanks" || method->name() == "WatchRanks";
          access = is_read ? Access::kMonitor : Access::kAdmin;
        }
        methods.push_back({"/" + file->service(i)->full_name() + "/" + method->name(), access});
      }
    }
  }
  return methods;
}

class CallGateTest : public ::testing::Test {
 protected:
  CallGateTest() {
    GrpcTestOptions options;
    options.keys = KeyRing::Load(directory_.Write("keys", kKeyFile)).value();
    server_ = std::make_unique<GrpcTestServer>(options);
  }

  grpc::Status Call(const std::string& path, const std::vector<std::string>& authorization) {
    grpc::ClientContext context;
    for (const std::string& value : authorization) context.AddMetadata("authorization", value);
    // Streams that would not end are malformed; whoever is let in is told so.
    return server_->CallRaw(path, "\xff\xff\xff", &context);
  }

  TestDirectory directory_;
  std::unique_ptr<GrpcTestServer> server_;
};

TEST_F(CallGateTest, EachMethodAsksForItsRole) {
  const std::vector<Method> methods = AllMethods();
  ASSERT_EQ(methods.size(), 16U) << "is the new method's access right?";
  for (const Method& method : methods) {
    EXPECT_EQ(Call(method.path, {}).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method.path;
    EXPECT_EQ(Call(method.path, {"Bearer wrong"}).error_code(), grpc::StatusCode::UNAUTHENTICATED)
        << method.path;
    // Malformed bytes are an answer to those who are let in.
    const auto code = [&](const std::string& key) {
      return Call(method.path, {"Bearer " + key}).error_code();
    };
    const auto kIn = grpc::StatusCode::INVALID_ARGUMENT;
    const auto kOut = grpc::StatusCode::PERMISSION_DENIED;
    EXPECT_EQ(code("user-key"), method.access == Access::kGenerate ? kIn : kOut) << method.path;
    EXPECT_EQ(code("monitor-key"), method.access == Access::kAdmin ? kOut : kIn) << method.path;
    EXPECT_EQ(code("admin-key"), kIn) << method.path;
  }
  EXPECT_EQ(server_->engine().num_submitted(), 0);
  EXPECT_TRUE(server_->admin().drains().empty());
}

TEST_F(CallGateTest, OfTwoKeysNoneCounts) {
  EXPECT_EQ(
      Call("/moed.v1.ModelService/GetModel", {"Bearer user-key", "Bearer admin-key"}).error_code(),
      grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(CallGateTest, HealthNeedsNoKey) {
  EXPECT_EQ(server_->CallRaw("/grpc.health.v1.Health/Check", "").error_code(),
            grpc::StatusCode::OK);
}

TEST_F(CallGateTest, EachCallIsRecordedWithItsClient) {
  Call("/moed.v1.ModelService/GetModel", {"Bearer user-key"});
  Call("/moed.v1.AdminService/Drain", {"Bearer user-key"});
  Call("/moed.v1.GenerationService/StreamGenerate", {});
  Call("/moed.v1.GenerationService/Generate", {"Bearer admin-key"});
  const std::vector<RequestRecord> records = server_->observer().WaitForRecords(4);
  ASSERT_EQ(records.size(), 4U);
  EXPECT_STREQ(records[0].method, "GetModel");
  EXPECT_EQ(records[0].client, "alice");
  EXPECT_EQ(records[0].status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_STREQ(records[1].method, "Drain");
  EXPECT_EQ(records[1].reason, "ROLE_REQUIRED");
  EXPECT_STREQ(records[2].method, "StreamGenerate");
  EXPECT_EQ(records[2].client, "");
  EXPECT_EQ(records[2].reason, "KEY_MISSING");
  EXPECT_STREQ(records[3].method, "Generate");
  EXPECT_EQ(records[3].client, "root");
  for (const RequestRecord& record : records) EXPECT_FALSE(record.admitted);
}

TEST(PeerAddressTest, IsTheAddressWithoutThePort) {
  EXPECT_EQ(PeerAddress("ipv4:127.0.0.1:5000"), "127.0.0.1");
  EXPECT_EQ(PeerAddress("ipv6:%5B::1%5D:5000"), "::1");
  EXPECT_EQ(PeerAddress("ipv6:[2001:db8::2]:5000"), "2001:db8::2");
  EXPECT_EQ(PeerAddress("ipv6:%5Bfe80::1%25eth0%5D:5000"), "fe80::1");
  EXPECT_EQ(PeerAddress("ipv6:%5B::ffff:127.0.0.1%5D:1"), "::ffff:127.0.0.1");
  EXPECT_EQ(PeerAddress("unix:/run/moed.sock"), "unix");
  EXPECT_EQ(PeerAddress("unix-abstract:moed"), "unix");
  EXPECT_EQ(PeerAddress("unix:"), "unix");
}

TEST(PeerAddressTest, IsEmptyForWhatItDoesNotKnow) {
  EXPECT_EQ(PeerAddress(""), "");
  EXPECT_EQ(PeerAddress("ipv6:"), "");
  EXPECT_EQ(PeerAddress("ipv6:::1"), "");
  EXPECT_EQ(PeerAddress("ipv6:%5B::1"), "");
  EXPECT_EQ(PeerAddress("vsock:3:5"), "");
}

}  // namespace
}  // namespace moed

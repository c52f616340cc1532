#include "client/connection.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "client/error_text.h"
#include "moed/v1/admin.grpc.pb.h"
#include "moed/v1/experts.grpc.pb.h"
#include "moed/v1/generation.grpc.pb.h"
#include "moed/v1/model.grpc.pb.h"
#include "moed/v1/tokenizer.grpc.pb.h"

namespace moed {
namespace {

absl::Status ToAbslStatus(const grpc::Status& status) {
  return WithDetails(
      absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message()),
      status.error_details());
}

std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(
    const ConnectionCredentials& credentials) {
  if (!credentials.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = credentials.ca_pem;
  options.pem_cert_chain = credentials.certificate_pem;
  options.pem_private_key = credentials.key_pem;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& server,
                                           const ConnectionCredentials& credentials) {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the answer to a long text is longer than 4 MiB
  if (!credentials.server_name.empty()) {
    arguments.SetSslTargetNameOverride(credentials.server_name);
  }
  return grpc::CreateCustomChannel(server, MakeCredentials(credentials), arguments);
}

}  // namespace

struct Connection::Impl {
  Impl(const ConnectionOptions& options, const ConnectionCredentials& credentials)
      : timeout_seconds(options.timeout_seconds),
        authorization(credentials.key.empty() ? "" : absl::StrCat("Bearer ", credentials.key)),
        channel(MakeChannel(options.server, credentials)),
        generation(channel),
        tokenizer(channel),
        model(channel),
        experts(channel),
        admin(channel) {}

  void Prepare(grpc::ClientContext* context) const {
    if (!authorization.empty()) context->AddMetadata("authorization", authorization);
    if (timeout_seconds <= 0) return;
    constexpr double kLongestSeconds = 1e9;  // what the clock can add
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::microseconds(static_cast<int64_t>(
                              std::min(timeout_seconds, kLongestSeconds) * 1e6)));
  }

  // Calls `method` of `stub`.
  template <typename Stub, typename Request, typename Response>
  absl::Status Unary(Stub& stub,
                     grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                     const Request& request, Response* response) {
    grpc::ClientContext context;
    Prepare(&context);
    return ToAbslStatus((stub.*method)(&context, request, response));
  }

  template <typename Stub, typename Request, typename Response>
  absl::Status Stream(Stub& stub,
                      std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(
                          grpc::ClientContext*, const Request&),
                      const Request& request, const OnMessage<Response>& on_message) {
    grpc::ClientContext context;
    Prepare(&context);
    const auto reader = (stub.*method)(&context, request);
    Response message;
    bool cancelled = false;
    while (reader->Read(&message)) {
      if (cancelled || on_message(message)) continue;
      cancelled = true;
      context.TryCancel();
    }
    const grpc::Status status = reader->Finish();
    return cancelled ? absl::OkStatus() : ToAbslStatus(status);
  }

  const double timeout_seconds;
  const std::string authorization;
  std::shared_ptr<grpc::Channel> channel;
  v1::GenerationService::Stub generation;
  v1::TokenizerService::Stub tokenizer;
  v1::ModelService::Stub model;
  v1::ExpertService::Stub experts;
  v1::AdminService::Stub admin;
};

Connection::Connection(const ConnectionOptions& options, const ConnectionCredentials& credentials)
    : impl_(std::make_unique<Impl>(options, credentials)) {}

Connection::~Connection() = default;

absl::Status Connection::StreamGenerate(const v1::StreamGenerateRequest& request,
                                        const OnMessage<v1::StreamGenerateResponse>& on_message) {
  return impl_->Stream(impl_->generation, &v1::GenerationService::Stub::StreamGenerate, request,
                       on_message);
}

absl::Status Connection::Tokenize(const v1::TokenizeRequest& request,
                                  v1::TokenizeResponse* response) {
  return impl_->Unary(impl_->tokenizer, &v1::TokenizerService::Stub::Tokenize, request, response);
}

absl::Status Connection::Detokenize(const v1::DetokenizeRequest& request,
                                    v1::DetokenizeResponse* response) {
  return impl_->Unary(impl_->tokenizer, &v1::TokenizerService::Stub::Detokenize, request, response);
}

absl::Status Connection::RenderChat(const v1::RenderChatRequest& request,
                                    v1::RenderChatResponse* response) {
  return impl_->Unary(impl_->tokenizer, &v1::TokenizerService::Stub::RenderChat, request, response);
}

absl::Status Connection::GetModel(const v1::GetModelRequest& request,
                                  v1::GetModelResponse* response) {
  return impl_->Unary(impl_->model, &v1::ModelService::Stub::GetModel, request, response);
}

absl::Status Connection::GetExpertLoad(const v1::GetExpertLoadRequest& request,
                                       v1::GetExpertLoadResponse* response) {
  return impl_->Unary(impl_->experts, &v1::ExpertService::Stub::GetExpertLoad, request, response);
}

absl::Status Connection::GetExpertTokens(const v1::GetExpertTokensRequest& request,
                                         v1::GetExpertTokensResponse* response) {
  return impl_->Unary(impl_->experts, &v1::ExpertService::Stub::GetExpertTokens, request, response);
}

absl::Status Connection::WatchExpertLoad(const v1::WatchExpertLoadRequest& request,
                                         const OnMessage<v1::WatchExpertLoadResponse>& on_message) {
  return impl_->Stream(impl_->experts, &v1::ExpertService::Stub::WatchExpertLoad, request,
                       on_message);
}

absl::Status Connection::GetPlacement(const v1::GetPlacementRequest& request,
                                      v1::GetPlacementResponse* response) {
  return impl_->Unary(impl_->experts, &v1::ExpertService::Stub::GetPlacement, request, response);
}

absl::Status Connection::ListRanks(const v1::ListRanksRequest& request,
                                   v1::ListRanksResponse* response) {
  return impl_->Unary(impl_->admin, &v1::AdminService::Stub::ListRanks, request, response);
}

absl::Status Connection::WatchRanks(const v1::WatchRanksRequest& request,
                                    const OnMessage<v1::WatchRanksResponse>& on_message) {
  return impl_->Stream(impl_->admin, &v1::AdminService::Stub::WatchRanks, request, on_message);
}

absl::Status Connection::AbortRequest(const v1::AbortRequestRequest& request,
                                      v1::AbortRequestResponse* response) {
  return impl_->Unary(impl_->admin, &v1::AdminService::Stub::AbortRequest, request, response);
}

absl::Status Connection::Drain(const v1::DrainRequest& request, v1::DrainResponse* response) {
  return impl_->Unary(impl_->admin, &v1::AdminService::Stub::Drain, request, response);
}

absl::Status Connection::SetLogLevel(const v1::SetLogLevelRequest& request,
                                     v1::SetLogLevelResponse* response) {
  return impl_->Unary(impl_->admin, &v1::AdminService::Stub::SetLogLevel, request, response);
}

}  // namespace moed

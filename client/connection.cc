#include "client/connection.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>

#include "moed/v1/experts.grpc.pb.h"
#include "moed/v1/generation.grpc.pb.h"
#include "moed/v1/model.grpc.pb.h"
#include "moed/v1/tokenizer.grpc.pb.h"

namespace moed {
namespace {

absl::Status ToAbslStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& server) {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the answer to a long text is longer than 4 MiB
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

struct Connection::Impl {
  Impl(const std::string& server, double timeout)
      : timeout_seconds(timeout),
        channel(MakeChannel(server)),
        generation(channel),
        tokenizer(channel),
        model(channel),
        experts(channel) {}

  void SetDeadline(grpc::ClientContext* context) const {
    if (timeout_seconds <= 0) return;
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::microseconds(static_cast<int64_t>(timeout_seconds * 1e6)));
  }

  // Calls `method` of `stub`.
  template <typename Stub, typename Request, typename Response>
  absl::Status Unary(Stub& stub,
                     grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                     const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return ToAbslStatus((stub.*method)(&context, request, response));
  }

  const double timeout_seconds;
  std::shared_ptr<grpc::Channel> channel;
  v1::GenerationService::Stub generation;
  v1::TokenizerService::Stub tokenizer;
  v1::ModelService::Stub model;
  v1::ExpertService::Stub experts;
};

Connection::Connection(const std::string& server, double timeout_seconds)
    : impl_(std::make_unique<Impl>(server, timeout_seconds)) {}

Connection::~Connection() = default;

absl::Status Connection::StreamGenerate(
    const v1::StreamGenerateRequest& request,
    const std::function<bool(const v1::StreamGenerateResponse&)>& on_message) {
  grpc::ClientContext context;
  impl_->SetDeadline(&context);
  const auto reader = impl_->generation.StreamGenerate(&context, request);
  v1::StreamGenerateResponse message;
  bool cancelled = false;
  while (reader->Read(&message)) {
    if (cancelled || on_message(message)) continue;
    cancelled = true;
    context.TryCancel();
  }
  const grpc::Status status = reader->Finish();
  return cancelled ? absl::OkStatus() : ToAbslStatus(status);
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

}  // namespace moed

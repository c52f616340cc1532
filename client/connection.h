// The way to a daemon. gRPC's headers stay behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/connection_options.h"
#include "moed/v1/admin.pb.h"
#include "moed/v1/experts.pb.h"
#include "moed/v1/generation.pb.h"
#include "moed/v1/model.pb.h"
#include "moed/v1/tokenizer.pb.h"

namespace moed {

// One channel; calls block. Errors are the daemon's: code, text and details (error_text.h).
class Connection {
 public:
  // Called for every message of a stream; false cancels the call, which then ends OK.
  template <typename Message>
  using OnMessage = std::function<bool(const Message&)>;

  // Connects with the first call.
  Connection(const ConnectionOptions& options, const ConnectionCredentials& credentials);
  ~Connection();

  absl::Status StreamGenerate(const v1::StreamGenerateRequest& request,
                              const OnMessage<v1::StreamGenerateResponse>& on_message);
  absl::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response);
  absl::Status Detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response);
  absl::Status RenderChat(const v1::RenderChatRequest& request, v1::RenderChatResponse* response);
  absl::Status GetModel(const v1::GetModelRequest& request, v1::GetModelResponse* response);
  absl::Status GetExpertLoad(const v1::GetExpertLoadRequest& request,
                             v1::GetExpertLoadResponse* response);
  absl::Status GetExpertTokens(const v1::GetExpertTokensRequest& request,
                               v1::GetExpertTokensResponse* response);
  absl::Status WatchExpertLoad(const v1::WatchExpertLoadRequest& request,
                               const OnMessage<v1::WatchExpertLoadResponse>& on_message);
  absl::Status GetPlacement(const v1::GetPlacementRequest& request,
                            v1::GetPlacementResponse* response);
  absl::Status ListRanks(const v1::ListRanksRequest& request, v1::ListRanksResponse* response);
  absl::Status WatchRanks(const v1::WatchRanksRequest& request,
                          const OnMessage<v1::WatchRanksResponse>& on_message);
  absl::Status AbortRequest(const v1::AbortRequestRequest& request,
                            v1::AbortRequestResponse* response);
  absl::Status Drain(const v1::DrainRequest& request, v1::DrainResponse* response);
  absl::Status SetLogLevel(const v1::SetLogLevelRequest& request,
                           v1::SetLogLevelResponse* response);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moed

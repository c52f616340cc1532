// The way to a daemon. gRPC's headers stay behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "moed/v1/experts.pb.h"
#include "moed/v1/generation.pb.h"
#include "moed/v1/model.pb.h"
#include "moed/v1/tokenizer.pb.h"

namespace moed {

// One channel; calls block. Errors are the daemon's, code and text.
class Connection {
 public:
  // `server` is "host:port". Connects with the first call. timeout_seconds 0: calls may take any
  // time.
  Connection(const std::string& server, double timeout_seconds);
  ~Connection();

  // Calls `on_message` for every message; its false cancels the call, which then ends OK.
  absl::Status StreamGenerate(
      const v1::StreamGenerateRequest& request,
      const std::function<bool(const v1::StreamGenerateResponse&)>& on_message);
  absl::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response);
  absl::Status Detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response);
  absl::Status RenderChat(const v1::RenderChatRequest& request, v1::RenderChatResponse* response);
  absl::Status GetModel(const v1::GetModelRequest& request, v1::GetModelResponse* response);
  absl::Status GetExpertLoad(const v1::GetExpertLoadRequest& request,
                             v1::GetExpertLoadResponse* response);
  absl::Status GetExpertTokens(const v1::GetExpertTokensRequest& request,
                               v1::GetExpertTokensResponse* response);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moed

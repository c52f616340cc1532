// What the engine hands out, as the messages of the contract.
#pragma once

#include <cstdint>
#include <string>

#include "moed/v1/generation.pb.h"
#include "runtime/output/generation_sink.h"
#include "server/admission/request_validator.h"

namespace moed {

// Builds a request's messages in order. One thread at a time.
class GenerationMessages {
 public:
  GenerationMessages(const AdmittedRequest& admitted, int64_t experts_per_token);

  const std::string& request_id() const { return request_id_; }

  // `finish` is null but for the last message; its status must be OK.
  v1::StreamGenerateResponse Next(GenerationDelta delta, const GenerationFinish* finish);

 private:
  std::string request_id_;
  bool send_text_;
  bool send_token_ids_;
  uint32_t prompt_tokens_;
  uint32_t experts_per_token_;
  uint64_t sequence_ = 0;
};

// Appends a stream's message to the answer in one piece.
void AppendToResponse(v1::StreamGenerateResponse message, v1::GenerateResponse* response);

}  // namespace moed

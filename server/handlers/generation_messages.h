// What the engine hands out, as the messages of the contract.
#pragma once

#include <cstdint>
#include <string>

#include "moed/v1/generation.pb.h"
#include "runtime/output/generation_sink.h"
#include "server/admission/request_validator.h"
#include "server/state/served_model.h"

namespace moed {

// Builds a request's messages in order. One thread at a time.
class GenerationMessages {
 public:
  GenerationMessages(const AdmittedRequest& admitted, const ServedModel& model);

  const std::string& request_id() const { return request_id_; }

  v1::StreamGenerateResponse Next(GenerationDelta delta);

 private:
  std::string request_id_;
  bool send_text_;
  bool send_token_ids_;
  uint32_t num_layers_;
  uint32_t experts_per_token_;
  uint64_t sequence_ = 0;
};

// Appends a stream's message to the answer in one piece, which has a continuation for each index
// seen so far.
void AppendToResponse(v1::StreamGenerateResponse message, v1::GenerateResponse* response);

}  // namespace moed

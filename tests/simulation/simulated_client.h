// A front end's writer for one request: sleeps until its outbox says that something is there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/output/outbox.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/solo_oracle.h"

namespace moed {

class SimulatedClient {
 public:
  // `request` and `solo` [n] outlive the client.
  SimulatedClient(const GenerationRequest& request, const std::vector<SoloChoice>& solo,
                  int64_t outbox_bytes);

  const std::shared_ptr<Outbox>& outbox() const { return outbox_; }
  bool is_awake() const { return is_awake_; }
  bool has_ended() const { return end_.has_value(); }
  bool has_left() const { return has_left_; }
  int64_t stalled_until_us = 0;

  // Takes one message, or falls asleep where there is none.
  void Turn();
  void Leave();
  // The request may end so, from now on.
  void Allow(const absl::Status& status) { allowed_.push_back(status); }

  // What is wrong with all that was read, now that nothing more happens; or empty.
  std::string Violation() const;
  absl::StatusCode end_code() const { return end_->status.code(); }

 private:
  struct Choice {
    std::optional<PromptReport> prompt;
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<TokenLogprob> logprobs;
    std::vector<int16_t> routed_experts;
    std::optional<ChoiceFinish> finish;
  };

  std::string ChoiceViolation(int32_t index) const;
  std::string FinishViolation(int32_t index, const SoloText& expected, bool is_timeout) const;
  std::string PromptViolation() const;

  const GenerationRequest& request_;
  const std::vector<SoloChoice>& solo_;
  std::shared_ptr<Outbox> outbox_;
  bool is_awake_ = false;
  bool has_left_ = false;
  std::vector<Choice> choices_;
  int num_prompt_reports_ = 0;
  std::optional<GenerationFinish> end_;
  std::string violation_;
  std::vector<absl::Status> allowed_;
};

}  // namespace moed

#include "tests/simulation/simulated_client.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace moed {
namespace {

template <typename T>
void Append(std::vector<T>&& from, std::vector<T>* to) {
  std::move(from.begin(), from.end(), std::back_inserter(*to));
}

template <typename T>
bool StartsWith(const std::vector<T>& whole, const std::vector<T>& begin) {
  return begin.size() <= whole.size() && std::equal(begin.begin(), begin.end(), whole.begin());
}

bool SameLogprob(const TokenLogprob& got, const SampledToken& token, int32_t num_top) {
  const auto& top = token.top_logprobs;
  const size_t count = std::min(top.size(), static_cast<size_t>(num_top));
  return got.token_id == token.token_id && got.logprob == token.logprob &&
         got.top.size() == count && std::equal(got.top.begin(), got.top.end(), top.begin());
}

}  // namespace

SimulatedClient::SimulatedClient(const GenerationRequest& request,
                                 const std::vector<SoloChoice>& solo, int64_t outbox_bytes)
    : request_(request),
      solo_(solo),
      outbox_(std::make_shared<Outbox>(static_cast<size_t>(outbox_bytes),
                                       [this] {
                                         if (is_awake_) violation_ = "an awake writer is woken";
                                         is_awake_ = true;
                                       })),
      choices_(request.sampling.n) {}

void SimulatedClient::Turn() {
  std::optional<OutboxMessage> message = outbox_->Pop();
  if (!message) {
    is_awake_ = false;
    return;
  }
  if (end_) violation_ = "something follows the end";
  if (message->delta) {
    GenerationDelta& delta = *message->delta;
    Choice& choice = choices_.at(delta.choice);
    if (choice.finish) violation_ = "a delta follows a continuation's finish";
    if (delta.prompt) {
      ++num_prompt_reports_;
      choice.prompt = std::move(delta.prompt);
    }
    choice.text += delta.text;
    Append(std::move(delta.token_ids), &choice.token_ids);
    Append(std::move(delta.logprobs), &choice.logprobs);
    Append(std::move(delta.routed_experts), &choice.routed_experts);
    choice.finish = std::move(delta.finish);
  }
  if (message->end) end_ = std::move(message->end);
}

void SimulatedClient::Leave() {
  has_left_ = true;
  outbox_->Close();
}

std::string SimulatedClient::Violation() const {
  if (!violation_.empty()) return violation_;
  if (!end_) return "the client waits for the end in vain";
  const absl::StatusCode code = end_->status.code();
  if (outbox_->overflowed() || has_left_) {
    if (code == absl::StatusCode::kResourceExhausted) return "";
  }
  if (code == absl::StatusCode::kOk && has_left_) return "";
  if (code == absl::StatusCode::kOk) {
    for (const Choice& choice : choices_) {
      if (!choice.finish) return "a request ends well before each of its continuations";
    }
    if (num_prompt_reports_ != 1) {
      return absl::StrCat("the prompt is reported ", num_prompt_reports_, " times");
    }
  } else if (std::find(allowed_.begin(), allowed_.end(), end_->status) == allowed_.end()) {
    const bool may_be_late =
        request_.deadline.has_value() && code == absl::StatusCode::kDeadlineExceeded;
    if (!may_be_late) return absl::StrCat("ends with ", end_->status.ToString());
  }
  for (int32_t i = 0; i < request_.sampling.n; ++i) {
    std::string wrong = ChoiceViolation(i);
    if (!wrong.empty()) return absl::StrCat("choice ", i, ": ", wrong);
  }
  return PromptViolation();
}

std::string SimulatedClient::ChoiceViolation(int32_t index) const {
  const Choice& choice = choices_[index];
  const SoloChoice& solo = solo_[index];
  const std::vector<int32_t>& prompt = request_.prompt_token_ids;
  const bool is_timeout = choice.finish && choice.finish->reason == FinishReason::kTimeLimit;
  // Where nothing arrived, there is no echo either.
  const bool echoes = request_.response.echo && !choice.token_ids.empty();
  const size_t num_echoed = echoes ? prompt.size() : 0;

  SoloText expected = solo.text();
  if (choice.finish && choice.token_ids.size() < num_echoed + expected.num_tokens) {
    // Cut short, which only time may do; a stop string can be complete with what was held back.
    if (!request_.stopping.time_limit || choice.token_ids.size() < num_echoed) {
      return "tokens are missing";
    }
    const auto count = static_cast<int32_t>(choice.token_ids.size() - num_echoed);
    expected = TextOfTokens(request_, solo.tokens(), count, false, /*ends_by_time=*/true);
  } else if (is_timeout) {
    // The token that completed the stop string, or the last, would have ended it.
    return "a whole continuation is cut short";
  }

  std::vector<int32_t> ids = echoes ? prompt : std::vector<int32_t>();
  for (int32_t i = 0; i < expected.num_tokens; ++i) ids.push_back(solo.tokens()[i].token_id);
  const bool same_ids = choice.finish ? ids == choice.token_ids : StartsWith(ids, choice.token_ids);
  if (!same_ids) return "other token ids than alone";

  std::string text = echoes && request_.response.text ? EchoText(request_) : "";
  if (request_.response.text) text += expected.text;
  const bool same_text = choice.finish ? text == choice.text : absl::StartsWith(text, choice.text);
  if (!same_text) {
    return absl::StrCat("text \"", absl::CHexEscape(choice.text), "\", alone \"",
                        absl::CHexEscape(text), "\"");
  }

  const int32_t num_top = request_.response.num_logprobs;
  const size_t num_prompt_logprobs = echoes && num_top >= 0 ? prompt.size() - 1 : 0;
  const size_t num_logprobs =
      num_top >= 0 ? num_prompt_logprobs + choice.token_ids.size() - num_echoed : 0;
  if (is_timeout && echoes && choice.logprobs.size() < num_prompt_logprobs &&
      choice.token_ids.size() == num_echoed) {
    // The time was over before the prompt was computed.
  } else if (choice.logprobs.size() != num_logprobs) {
    return absl::StrCat(choice.logprobs.size(), " log probabilities, of ", num_logprobs);
  }
  for (size_t i = 0; i < choice.logprobs.size(); ++i) {
    const SampledToken& token = i < num_prompt_logprobs ? solo.prompt_logprobs()[i]
                                                        : solo.tokens()[i - num_prompt_logprobs];
    if (!SameLogprob(choice.logprobs[i], token, num_top)) return "another log probability";
  }
  return choice.finish ? FinishViolation(index, expected, is_timeout) : "";
}

std::string SimulatedClient::FinishViolation(int32_t index, const SoloText& expected,
                                             bool is_timeout) const {
  const Choice& choice = choices_[index];
  const ChoiceFinish& finish = *choice.finish;
  const SoloChoice& solo = solo_[index];
  const bool by_string = !expected.matched_stop_string.empty();
  const bool by_token = !by_string && !is_timeout && solo.ends_by_stop_token();
  FinishReason reason = by_string || by_token ? FinishReason::kStop : FinishReason::kLength;
  if (is_timeout) reason = FinishReason::kTimeLimit;
  if (finish.reason != reason || finish.matched_stop_string != expected.matched_stop_string ||
      finish.matched_token_id != (by_token ? solo.tokens().back().token_id : -1)) {
    return absl::StrCat("finishes for reason ", static_cast<int>(finish.reason), ", \"",
                        finish.matched_stop_string, "\", token ", finish.matched_token_id,
                        "; expected ", static_cast<int>(reason), ", \"",
                        expected.matched_stop_string, "\"");
  }
  if (finish.completion_tokens != expected.num_tokens ||
      finish.prompt_tokens != static_cast<int32_t>(request_.prompt_token_ids.size())) {
    return absl::StrCat("finishes with ", finish.prompt_tokens, " and ", finish.completion_tokens,
                        " tokens");
  }
  if (finish.queue_seconds < 0 || finish.first_token_seconds < 0 ||
      finish.total_seconds < finish.queue_seconds ||
      finish.total_seconds < finish.first_token_seconds) {
    return "its times run backwards";
  }
  const std::vector<int16_t>& experts = solo.routed_experts();
  if (!request_.response.routed_experts) {
    return choice.routed_experts.empty() ? "" : "experts that nobody asked for";
  }
  const size_t per_row =
      experts.size() / (request_.prompt_token_ids.size() + solo.tokens().size() - 1);
  const size_t first = index == 0 ? 0 : request_.prompt_token_ids.size() * per_row;
  const size_t num_rows = choice.routed_experts.size() / per_row;
  const size_t wanted_rows =
      expected.num_tokens - 1 + (index == 0 ? request_.prompt_token_ids.size() : 0);
  if (first + choice.routed_experts.size() > experts.size() ||
      !std::equal(choice.routed_experts.begin(), choice.routed_experts.end(),
                  experts.begin() + static_cast<int64_t>(first))) {
    return "other experts than alone";
  }
  // A row may have been computed whose token was not, when the time was over.
  if (num_rows != wanted_rows && !is_timeout) {
    return absl::StrCat("experts of ", num_rows, " rows, of ", wanted_rows);
  }
  return "";
}

std::string SimulatedClient::PromptViolation() const {
  if (num_prompt_reports_ == 0) return "";
  if (num_prompt_reports_ > 1) return "the prompt is reported twice";
  const auto with_report =
      std::find_if(choices_.begin(), choices_.end(), [](const Choice& c) { return c.prompt; });
  const PromptReport& report = *with_report->prompt;
  const auto num_prompt = static_cast<int32_t>(request_.prompt_token_ids.size());
  if (report.prompt_tokens != num_prompt || report.cached_tokens >= num_prompt ||
      report.cached_tokens < 0) {
    return absl::StrCat("reports a prompt of ", report.prompt_tokens, ", cached ",
                        report.cached_tokens);
  }
  const bool may_share = !request_.cache.bypass && !request_.needs_every_position();
  if (report.cached_tokens > 0 && !may_share) return "cached tokens in spite of the request";
  for (const Choice& choice : choices_) {
    if (choice.finish && choice.finish->usage.cached_tokens != report.cached_tokens) {
      return "the cached tokens are told in two ways";
    }
  }
  const int32_t num_top = request_.response.num_reported_prompt_logprobs.value_or(
      request_.response.num_prompt_logprobs);
  if (num_top < 0) return report.logprobs.empty() ? "" : "log probabilities nobody asked for";
  const std::vector<SampledToken>& expected = solo_[0].prompt_logprobs();
  const bool may_be_short = request_.stopping.time_limit.has_value();
  if (report.logprobs.size() > expected.size() ||
      (report.logprobs.size() < expected.size() && !may_be_short)) {
    return absl::StrCat(report.logprobs.size(), " log probabilities of the prompt");
  }
  for (size_t i = 0; i < report.logprobs.size(); ++i) {
    if (!SameLogprob(report.logprobs[i], expected[i], num_top)) {
      return absl::StrCat("another log probability of prompt token ", i + 1);
    }
  }
  return "";
}

}  // namespace moed

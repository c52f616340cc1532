// A sink that writes down what it is told, and on which a test can wait.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/output/generation_sink.h"

namespace moed {

class RecordingSink : public GenerationSink {
 public:
  // Called in OnDelta, on the output thread, with the number of tokens so far; what it returns is
  // what OnDelta says.
  std::function<bool(size_t num_tokens)> on_delta;
  // Called in OnFinish.
  std::function<void()> on_finish;

  bool OnDelta(GenerationDelta delta) override {
    size_t num_tokens = 0;
    {
      MutexLock lock(mutex_);
      text_ += delta.text;
      tokens_.insert(tokens_.end(), delta.token_ids.begin(), delta.token_ids.end());
      std::vector<int32_t>& of_choice = tokens_by_choice_[delta.choice];
      of_choice.insert(of_choice.end(), delta.token_ids.begin(), delta.token_ids.end());
      if (delta.finish) choice_finishes_[delta.choice] = *delta.finish;
      if (num_finishes_ > 0) ++num_calls_after_finish_;
      num_tokens = tokens_.size();
      changed_.NotifyAll();
    }
    return on_delta ? on_delta(num_tokens) : true;
  }
  void OnFinish(const GenerationFinish& finish) override {
    if (on_finish) on_finish();
    MutexLock lock(mutex_);
    finish_ = finish;
    ++num_finishes_;
    changed_.NotifyAll();
  }

  // Blocks until the request has ended.
  GenerationFinish Wait() {
    MutexLock lock(mutex_);
    while (num_finishes_ == 0) changed_.Wait(mutex_);
    return finish_;
  }
  // How a continuation ended normally; empty where it did not.
  ChoiceFinish choice_finish(int32_t choice = 0) const {
    MutexLock lock(mutex_);
    const auto found = choice_finishes_.find(choice);
    return found == choice_finishes_.end() ? ChoiceFinish() : found->second;
  }
  void WaitForTokens(size_t count) {
    MutexLock lock(mutex_);
    while (tokens_.size() < count) changed_.Wait(mutex_);
  }
  std::vector<int32_t> tokens() const {
    MutexLock lock(mutex_);
    return tokens_;
  }
  std::vector<int32_t> tokens(int32_t choice) const {
    MutexLock lock(mutex_);
    const auto found = tokens_by_choice_.find(choice);
    return found == tokens_by_choice_.end() ? std::vector<int32_t>() : found->second;
  }
  std::string text() const {
    MutexLock lock(mutex_);
    return text_;
  }
  int num_finishes() const {
    MutexLock lock(mutex_);
    return num_finishes_;
  }
  int num_calls_after_finish() const {
    MutexLock lock(mutex_);
    return num_calls_after_finish_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  GenerationFinish finish_ ABSL_GUARDED_BY(mutex_);
  std::map<int32_t, std::vector<int32_t>> tokens_by_choice_ ABSL_GUARDED_BY(mutex_);
  std::map<int32_t, ChoiceFinish> choice_finishes_ ABSL_GUARDED_BY(mutex_);
  int num_finishes_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_calls_after_finish_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed

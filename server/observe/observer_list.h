// Several observers as one.
#pragma once

#include <utility>
#include <vector>

#include "server/observe/request_observer.h"

namespace moed {

// Tells each of them, in their order; they must outlive it.
class ObserverList final : public RequestObserver {
 public:
  explicit ObserverList(std::vector<RequestObserver*> observers)
      : observers_(std::move(observers)) {}

  void OnAdmitted() override {
    for (RequestObserver* observer : observers_) observer->OnAdmitted();
  }
  void OnFirstToken(std::chrono::duration<double> since_submit) override {
    for (RequestObserver* observer : observers_) observer->OnFirstToken(since_submit);
  }
  void OnInterToken(std::chrono::duration<double> each, int32_t tokens) override {
    for (RequestObserver* observer : observers_) observer->OnInterToken(each, tokens);
  }
  void OnTokens(int32_t tokens) override {
    for (RequestObserver* observer : observers_) observer->OnTokens(tokens);
  }
  void OnEnd(const RequestRecord& record) override {
    for (RequestObserver* observer : observers_) observer->OnEnd(record);
  }

 private:
  const std::vector<RequestObserver*> observers_;
};

}  // namespace moed

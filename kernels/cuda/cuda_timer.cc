#include "kernels/cuda/cuda_timer.h"

#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {
namespace {

class CudaTimer final : public StreamTimer {
 public:
  explicit CudaTimer(const CudaApi& api) : api_(api) {
    for (void** event : {&start_, &stop_}) {
      if (api_.create_event(event, /*timed=*/true) != kCudaSuccess) *event = nullptr;
    }
  }
  ~CudaTimer() override {
    for (void* event : {start_, stop_}) {
      if (event != nullptr) api_.destroy_event(event);
    }
  }

  void Start(Stream& stream) override { Record(stream, start_); }
  void Stop(Stream& stream) override { Record(stream, stop_); }

  double seconds() override {
    float ms = 0;
    const bool has_events = start_ != nullptr && stop_ != nullptr;
    if (!has_events || api_.elapsed_ms(&ms, start_, stop_) != kCudaSuccess) return 0;
    return static_cast<double>(ms) / 1e3;
  }

 private:
  void Record(Stream& stream, void* event) const {
    auto& cuda_stream = static_cast<CudaStream&>(stream);
    if (event == nullptr) return;
    cuda_stream.Note(api_.record_event(event, cuda_stream.handle()), "StreamTimer");
  }

  const CudaApi& api_;
  void* start_ = nullptr;
  void* stop_ = nullptr;
};

}  // namespace

std::unique_ptr<StreamTimer> MakeCudaTimer(const CudaApi& api) {
  return std::make_unique<CudaTimer>(api);
}

}  // namespace moed::cuda

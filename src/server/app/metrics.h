#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/engine.h"

namespace gem8::app {

/// How one answer went, when it is over.
struct AnswerRecord {
  std::string_view finish_reason;  ///< "stop", "length", "abort", "error"
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t max_tokens = 0;  ///< asked for; 0: not said
  std::int64_t n = 1;
  Clock::time_point received;  ///< by the server
  RequestTimes times;
};

/// The counters behind /metrics, under vLLM's names. Thread-safe.
class Metrics {
 public:
  Metrics(const std::string& model_name, std::int64_t max_model_len);
  ~Metrics();

  void observe(const AnswerRecord& record);
  void observe_token_gap(double seconds);
  void observe_http(std::string_view handler, std::string_view method, int status);

  /// Prometheus text format 0.0.4.
  std::string text(const EngineStats& engine);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gem8::app

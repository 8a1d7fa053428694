#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "engine/sampling_params.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "model/vision/preprocess.h"

namespace gem8 {

using Clock = std::chrono::steady_clock;

/// An image whose soft tokens take the place of consecutive placeholder tokens of the prompt, one
/// for each.
struct PromptImage {
  std::int64_t position = 0;  ///< in the prompt, of the first replaced token
  std::shared_ptr<const Patches> patches;
  std::string content_hash;  ///< equal hash, equal patches; never empty

  std::int64_t n_tokens() const { return patches->soft_tokens(); }
};

/// A request for one answer.
struct EngineRequest {
  std::vector<TokenId> prompt;  ///< not empty
  std::vector<PromptImage> images;
  SamplingParams sampling;
  std::vector<TokenId> stop_token_ids;  ///< besides the model's own end tokens
  bool ignore_eos = false;  ///< the model's own end tokens do not stop; stop_token_ids do
  std::optional<std::int64_t> max_tokens;  ///< >= 1; absent: what the context has room for
  std::int64_t min_tokens = 0;             ///< end and stop tokens are not chosen before
  std::unique_ptr<TokenMask> mask;         ///< constrained decoding; null: none
  /// Called on the engine thread when events wait and the reader has said (RequestHandle::receive()
  /// found none) that it waits for them. Must not block. May be called once more after the handle
  /// is gone.
  std::function<void()> on_ready;
};

enum class EndReason {
  kStop,    ///< an end or stop token
  kLength,  ///< max_tokens or the context is used up
  kAbort,   ///< the engine shut down
  kError,   ///< see Finish::error
};

/// When a request passed its stations; zero where it did not.
struct RequestTimes {
  Clock::time_point queued;
  Clock::time_point scheduled;  ///< first step with a part of it
  Clock::time_point first_token;
  Clock::time_point last_token;
};

struct Finish {
  EndReason reason = EndReason::kStop;
  std::optional<TokenId>
      stop_token;  ///< the token that stopped it, unless it is the model's primary end token
  Error error;     ///< of kError
};

/// A sampled token, or the end of the request, or both: the last token's event carries the end. The
/// stop token is reported too.
struct TokenEvent {
  RequestTimes times;  ///< of the request so far
  std::optional<SampledToken> token;
  std::vector<TokenLogprob> top;  ///< the n_logprobs best, when asked for
  std::optional<Finish> finish;
};

}  // namespace gem8

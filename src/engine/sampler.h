#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/sampling_params.h"
#include "foundation/token_id.h"

namespace gem8 {

/// Which tokens may come next, for constrained decoding: the seam where the server plugs grammars
/// in. One per request. Called between forward passes, one call at a time for one request but
/// beside those of others; must not block.
class TokenMask {
 public:
  virtual ~TokenMask() = default;
  /// Clears the bits of forbidden tokens; token t is bit t % 32 of bits[t / 32]. All bits are set
  /// on entry.
  virtual void restrict(std::span<std::uint32_t> bits) = 0;
  /// The token that was chosen.
  virtual void accept(TokenId token) = 0;
};

struct TokenLogprob {
  TokenId id{};
  float logprob = 0.0f;
};

struct SampledToken {
  TokenId id{};
  float logprob = 0.0f;   ///< when asked for: of the logits before temperature, bias and penalties
  std::int32_t rank = 0;  ///< when asked for: 1 + number of tokens with a strictly larger logit
};

/// What one request has seen so far, as the penalties need it. Allocates in its constructor only
/// (vocab counters), and nothing when the parameters have no penalties.
class TokenHistory {
 public:
  TokenHistory() = default;
  TokenHistory(const SamplingParams& params, std::span<const TokenId> prompt, std::int64_t vocab,
               std::int64_t max_output);

  void add_output(TokenId token);
  void apply_penalties(const SamplingParams& params, std::span<float> logits) const;

 private:
  struct Seen {
    std::int32_t token = 0;
    std::int32_t n_output = 0;  // 0: in the prompt only
  };

  Seen& entry(TokenId token);

  std::vector<std::int32_t> index_;  // [vocab]: position in seen_, or -1; empty without penalties
  std::vector<Seen> seen_;           // each token of prompt and output once
};

/// Everything the choice of one token depends on besides its logits.
struct SampleContext {
  const SamplingParams& params;
  const TokenHistory& history;
  std::uint64_t position = 0;           ///< of the new token among the request's outputs
  std::span<const TokenId> suppressed;  ///< the model's suppress_tokens
  std::span<const TokenId> banned;      ///< stop tokens while min_tokens is not reached
  std::span<const std::uint32_t> mask;  ///< empty, or the bits of TokenMask
};

/// Chooses tokens. Holds scratch memory for one row, so one Sampler serves one thread at a time; it
/// allocates in its constructor only.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocab);

  /// Where the caller puts the row's logits (after the soft cap) before sample(); its content is
  /// used up.
  std::span<float> logits() { return logits_; }

  /// The next token: suppress, mask, log-probabilities, allowed ids, banned ids, bias, penalties,
  /// then greedy or temperature, min-p, top-k, top-p and a Gumbel draw keyed by (seed, position,
  /// token). Among equals the lower id. NaN counts as minus infinity. `top` receives the
  /// params.n_logprobs best, best first (its capacity must suffice to keep this free of
  /// allocation). nullopt: no token is left to choose.
  std::optional<SampledToken> sample(const SampleContext& context, std::vector<TokenLogprob>& top);

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
  };

  TokenId draw(const SamplingParams& params, std::uint64_t position, float best);
  void keep_top_k(std::int64_t k, float floor);
  void keep_top_p(double top_p);

  std::vector<float> logits_;
  std::vector<float> raw_;             // a copy, when log-probabilities are asked for
  std::vector<Candidate> candidates_;  // capacity: vocab
};

}  // namespace gem8

#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/random.h"
#include "foundation/check.h"

namespace gem8 {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// The largest value, NaN left out. Sixteen running maxima: one would wait for itself at every
/// element of a 262,144-token row.
float largest(std::span<const float> values) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(kLowest);
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

/// log sum exp, minus infinities and NaN left out.
double log_sum_exp(std::span<const float> logits, float best) {
  double sum = 0.0;
  for (const float logit : logits) {
    if (logit > kLowest) sum += std::exp(logit - best);
  }
  return static_cast<double>(best) + std::log(sum);
}

/// The n best tokens, best first, the lower id first among equals. `top` is a heap of the best so
/// far whose front is the worst.
void best_tokens(std::span<const float> logits, std::size_t n, std::vector<TokenLogprob>& top) {
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : value_of(a.id) < value_of(b.id);
  };
  top.clear();
  if (n == 0) return;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (!(logits[id] > kLowest)) continue;
    if (top.size() == n) {
      if (logits[id] <= top.front().logprob) continue;  // an equal one has the higher id
      std::pop_heap(top.begin(), top.end(), better);
      top.pop_back();
    }
    top.push_back({TokenId{static_cast<std::int32_t>(id)}, logits[id]});
    std::push_heap(top.begin(), top.end(), better);
  }
  std::sort_heap(top.begin(), top.end(), better);
}

std::size_t at(TokenId id) {
  return static_cast<std::size_t>(value_of(id));
}

}  // namespace

TokenHistory::TokenHistory(const SamplingParams& params, std::span<const TokenId> prompt,
                           std::int64_t vocab, std::int64_t max_output) {
  if (!params.has_penalties()) return;
  index_.assign(static_cast<std::size_t>(vocab), -1);
  seen_.reserve(std::min(static_cast<std::size_t>(vocab),
                         prompt.size() + static_cast<std::size_t>(max_output)));
  for (const TokenId token : prompt) entry(token);
}

TokenHistory::Seen& TokenHistory::entry(TokenId token) {
  std::int32_t& index = index_[at(token)];
  if (index < 0) {
    index = static_cast<std::int32_t>(seen_.size());
    seen_.push_back({value_of(token), 0});
  }
  return seen_[static_cast<std::size_t>(index)];
}

void TokenHistory::add_output(TokenId token) {
  if (!index_.empty()) ++entry(token).n_output;
}

void TokenHistory::apply_penalties(const SamplingParams& params, std::span<float> logits) const {
  for (const Seen& seen : seen_) {
    float& logit = logits[static_cast<std::size_t>(seen.token)];
    logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.frequency_penalty * static_cast<float>(seen.n_output);
    if (seen.n_output > 0) logit -= params.presence_penalty;
  }
}

Sampler::Sampler(std::int64_t vocab)
    : logits_(static_cast<std::size_t>(vocab)), raw_(logits_.size()) {
  candidates_.reserve(logits_.size());
}

std::optional<SampledToken> Sampler::sample(const SampleContext& context,
                                            std::vector<TokenLogprob>& top) {
  const SamplingParams& params = context.params;
  for (const TokenId token : context.suppressed) logits_[at(token)] = kLowest;
  if (!context.mask.empty()) {
    for (std::size_t id = 0; id < logits_.size(); ++id) {
      if ((context.mask[id / 32] >> (id % 32) & 1u) == 0) logits_[id] = kLowest;
    }
  }
  if (params.n_logprobs) std::copy(logits_.begin(), logits_.end(), raw_.begin());
  if (!params.allowed_token_ids.empty()) {
    candidates_.clear();
    for (const TokenId token : params.allowed_token_ids)
      candidates_.push_back({logits_[at(token)], value_of(token)});
    std::fill(logits_.begin(), logits_.end(), kLowest);
    for (const Candidate& allowed : candidates_)
      logits_[static_cast<std::size_t>(allowed.id)] = allowed.logit;
  }
  for (const TokenId token : context.banned) logits_[at(token)] = kLowest;
  for (const LogitBias& bias : params.logit_bias) logits_[at(bias.token)] += bias.bias;
  if (params.has_penalties()) context.history.apply_penalties(params, logits_);

  const float best = largest(logits_);
  if (!(best > kLowest) || std::isinf(best)) return std::nullopt;
  SampledToken sampled;
  if (params.greedy()) {
    sampled.id = TokenId{static_cast<std::int32_t>(std::find(logits_.begin(), logits_.end(), best) -
                                                   logits_.begin())};
  } else {
    sampled.id = draw(params, context.position, best);
  }

  if (params.n_logprobs) {
    const double normaliser = log_sum_exp(raw_, largest(raw_));
    const float logit = raw_[at(sampled.id)];
    sampled.logprob = static_cast<float>(logit - normaliser);
    sampled.rank =
        1 + static_cast<std::int32_t>(std::count_if(
                raw_.begin(), raw_.end(), [logit](float other) { return other > logit; }));
    best_tokens(raw_, static_cast<std::size_t>(*params.n_logprobs), top);
    for (TokenLogprob& entry : top) entry.logprob = static_cast<float>(entry.logprob - normaliser);
  } else {
    top.clear();
  }
  return sampled;
}

/// Leaves in candidates_ the k largest of logits_ that are not below `floor`, and all that equal
/// the k-th (k <= 0: no limit).
void Sampler::keep_top_k(std::int64_t k, float floor) {
  candidates_.clear();
  const auto limit = k > 0 && k < static_cast<std::int64_t>(logits_.size())
                         ? static_cast<std::size_t>(k)
                         : logits_.size();
  const auto cut = [&] {
    std::nth_element(candidates_.begin(),
                     candidates_.begin() + static_cast<std::ptrdiff_t>(limit - 1),
                     candidates_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
    floor = candidates_[limit - 1].logit;
    std::erase_if(candidates_,
                  [floor](const Candidate& candidate) { return candidate.logit < floor; });
  };
  // Cutting whenever twice the kept number has gathered costs O(1) a token; ties may keep more than
  // k.
  std::size_t next_cut = 4 * limit;
  for (std::size_t id = 0; id < logits_.size(); ++id) {
    if (!(logits_[id] >= floor) || logits_[id] == kLowest) continue;
    candidates_.push_back({logits_[id], static_cast<std::int32_t>(id)});
    if (candidates_.size() >= next_cut) {
      cut();
      next_cut = std::max(4 * limit, 2 * candidates_.size());
    }
  }
  if (candidates_.size() > limit) cut();
}

/// Keeps the most likely candidates, the lower id first among equals, up to and with the one that
/// brings their sum to top_p.
void Sampler::keep_top_p(double top_p) {
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  float best = kLowest;
  for (const Candidate& candidate : candidates_) best = std::max(best, candidate.logit);
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += std::exp(candidate.logit - best);
  // Sorting in growing pieces: the nucleus of a peaked distribution over the whole vocabulary is a
  // few tokens.
  double sum = 0.0;
  std::size_t sorted = 0;
  for (std::size_t piece = 256; sorted < candidates_.size(); piece *= 4) {
    const std::size_t end = std::min(sorted + piece, candidates_.size());
    std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(end), candidates_.end(),
                      likelier);
    for (; sorted < end; ++sorted) {
      if (sorted > 0 && sum >= top_p * total) {
        candidates_.resize(sorted);
        return;
      }
      sum += std::exp(candidates_[sorted].logit - best);
    }
  }
}

TokenId Sampler::draw(const SamplingParams& params, std::uint64_t position, float best) {
  const float temperature = std::max(params.temperature, 0.01f);
  for (float& logit : logits_) logit /= temperature;
  best /= temperature;
  // p >= min_p * p_max in logits; the rounding of the logarithm must not cost the best token its
  // place.
  const float floor = params.min_p > 0.0f ? std::min(best + std::log(params.min_p), best) : kLowest;
  keep_top_k(params.top_k, floor);
  if (params.top_p < 1.0f) keep_top_p(static_cast<double>(params.top_p));

  // argmax of p_i / e_i with e_i ~ Exp(1), in logarithms.
  Candidate chosen{kLowest, -1};
  double best_score = 0.0;
  for (const Candidate& candidate : candidates_) {
    const double score = static_cast<double>(candidate.logit) -
                         std::log(-std::log(uniform_draw(params.seed, position, candidate.id)));
    if (chosen.id < 0 || score > best_score || (score == best_score && candidate.id < chosen.id)) {
      chosen = candidate;
      best_score = score;
    }
  }
  GEM8_CHECK(chosen.id >= 0);
  return TokenId{chosen.id};
}

}  // namespace gem8

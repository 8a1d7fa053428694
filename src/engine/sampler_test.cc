#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/random.h"

namespace gem8 {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::optional<SampledToken> sample(const std::vector<float>& logits, const SamplingParams& params,
                                   std::uint64_t position = 0,
                                   std::vector<TokenLogprob>* top = nullptr,
                                   const TokenHistory* history = nullptr,
                                   std::vector<TokenId> banned = {},
                                   std::vector<TokenId> suppressed = {},
                                   std::vector<std::uint32_t> mask = {}) {
  Sampler sampler(static_cast<std::int64_t>(logits.size()));
  std::copy(logits.begin(), logits.end(), sampler.logits().begin());
  std::vector<TokenLogprob> unused;
  const TokenHistory none;
  return sampler.sample({.params = params,
                         .history = history ? *history : none,
                         .position = position,
                         .suppressed = suppressed,
                         .banned = banned,
                         .mask = mask},
                        top ? *top : unused);
}

int greedy(const std::vector<float>& logits, SamplingParams params = {}) {
  params.temperature = 0.0f;
  return value_of(sample(logits, params)->id);
}

/// Which tokens n draws at successive positions gave, as shares.
std::map<int, double> shares(const std::vector<float>& logits, SamplingParams params,
                             int n = 20000) {
  std::map<int, double> result;
  for (int i = 0; i < n; ++i)
    result[value_of(sample(logits, params, static_cast<std::uint64_t>(i))->id)] += 1.0 / n;
  return result;
}

std::vector<float> logs(const std::vector<float>& probabilities) {
  std::vector<float> result;
  for (const float p : probabilities) result.push_back(std::log(p));
  return result;
}

// The known answers of Random123's kat_vectors for philox4x32, 10 rounds.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, DrawsStayInsideTheOpenInterval) {
  for (std::uint64_t position = 0; position < 1000; ++position) {
    const double u = uniform_draw(7, position, 3);
    EXPECT_GT(u, 0.0);
    EXPECT_LT(u, 1.0);
  }
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  EXPECT_EQ(greedy({0, 3, 1, 3}), 1);
  std::vector<float> wide(1000, -1.0f);
  wide[977] = wide[500] = 2.0f;
  EXPECT_EQ(greedy(wide), 500);
}

TEST(Sampler, NanNeverWinsAndNothingLeftIsNotAToken) {
  EXPECT_EQ(greedy({NAN, -5.0f, NAN}), 1);
  EXPECT_FALSE(sample({NAN, -kInf}, {.temperature = 0.0f}).has_value());
  EXPECT_FALSE(sample({-kInf, -kInf}, {}).has_value());
  EXPECT_EQ(value_of(sample({NAN, 1.0f, -kInf}, {})->id), 1);
}

TEST(Sampler, SuppressedBannedAndMaskedAreNotChosen) {
  EXPECT_EQ(
      value_of(sample({3, 2, 1}, {.temperature = 0.0f}, 0, nullptr, nullptr, {}, {TokenId{0}})->id),
      1);
  EXPECT_EQ(
      value_of(sample({3, 2, 1}, {.temperature = 0.0f}, 0, nullptr, nullptr, {TokenId{0}})->id), 1);
  EXPECT_EQ(
      value_of(sample({3, 2, 1}, {.temperature = 0.0f}, 0, nullptr, nullptr, {}, {}, {0b100})->id),
      2);
}

TEST(Sampler, BiasForcesAndBansButCannotUnban) {
  EXPECT_EQ(greedy({3, 2, 1}, {.logit_bias = {{TokenId{2}, 100.0f}}}), 2);
  EXPECT_EQ(greedy({3, 2, 1}, {.logit_bias = {{TokenId{0}, -100.0f}}}), 1);
  SamplingParams forced{.temperature = 0.0f, .logit_bias = {{TokenId{0}, 100.0f}}};
  EXPECT_EQ(value_of(sample({3, 2, 1}, forced, 0, nullptr, nullptr, {TokenId{0}})->id), 1);
}

TEST(Sampler, AllowedIdsLeaveTheOthersOut) {
  EXPECT_EQ(greedy({9, 2, 3, 1}, {.allowed_token_ids = {TokenId{1}, TokenId{3}}}), 1);
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  const std::vector<TokenId> prompt = {TokenId{0}};
  // repetition: prompt and output; positive logits are divided, negative multiplied
  SamplingParams params{.temperature = 0.0f, .repetition_penalty = 2.0f};
  TokenHistory history(params, prompt, 4, 8);
  EXPECT_EQ(value_of(sample({3, 2, 0, 0}, params, 0, nullptr, &history)->id), 1);      // 3 / 2 < 2
  EXPECT_EQ(value_of(sample({-3, -4, -9, -9}, params, 0, nullptr, &history)->id), 1);  // -6 < -4
  // presence and frequency: output only
  params = {.temperature = 0.0f, .presence_penalty = 1.5f};
  history = TokenHistory(params, prompt, 4, 8);
  EXPECT_EQ(value_of(sample({3, 2, 0, 0}, params, 0, nullptr, &history)->id), 0);
  history.add_output(TokenId{0});
  history.add_output(TokenId{0});
  EXPECT_EQ(value_of(sample({3, 2, 0, 0}, params, 0, nullptr, &history)->id), 1);     // 1.5, once
  EXPECT_EQ(value_of(sample({3.6f, 2, 0, 0}, params, 0, nullptr, &history)->id), 0);  // 2.1
  params = {.temperature = 0.0f, .frequency_penalty = 1.0f};
  history = TokenHistory(params, prompt, 4, 8);
  history.add_output(TokenId{0});
  history.add_output(TokenId{0});
  EXPECT_EQ(value_of(sample({3.5f, 2, 0, 0}, params, 0, nullptr, &history)->id), 1);  // 3.5 - 2
}

TEST(Sampler, DrawsFollowTheSoftmaxOfLogitsOverTemperature) {
  // 20,000 draws: the standard error of a share is at most sqrt(0.25 / 20000) = 0.0035; five of
  // them are allowed.
  const auto plain = shares(logs({0.5f, 0.3f, 0.2f}), {.seed = 11});
  EXPECT_NEAR(plain.at(0), 0.5, 0.018);
  EXPECT_NEAR(plain.at(1), 0.3, 0.018);
  EXPECT_NEAR(plain.at(2), 0.2, 0.018);
  // temperature 2: square roots, renormalised
  const double total = std::sqrt(0.5) + std::sqrt(0.3) + std::sqrt(0.2);
  const auto hot = shares(logs({0.5f, 0.3f, 0.2f}), {.temperature = 2.0f, .seed = 12});
  EXPECT_NEAR(hot.at(0), std::sqrt(0.5) / total, 0.018);
  EXPECT_NEAR(hot.at(2), std::sqrt(0.2) / total, 0.018);
}

TEST(Sampler, TopKKeepsTiesWithTheKth) {
  const auto two = shares(logs({0.4f, 0.3f, 0.2f, 0.1f}), {.top_k = 2, .seed = 5}, 4000);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_NEAR(two.at(0), 4.0 / 7, 0.04);
  const auto tied = shares(logs({0.4f, 0.2f, 0.2f, 0.2f}), {.top_k = 2, .seed = 5}, 4000);
  EXPECT_EQ(tied.size(), 4u);
  // more tokens than the buffer that is cut while scanning
  std::vector<float> wide;
  for (int i = 0; i < 5000; ++i) wide.push_back(static_cast<float>(i * 7919 % 5000) / 100.0f);
  for (const auto& [token, share] : shares(wide, {.temperature = 2.0f, .top_k = 3, .seed = 5}, 500))
    EXPECT_GE(wide[static_cast<std::size_t>(token)], 49.97f);
}

TEST(Sampler, TopPKeepsTheTokenThatCrossesAndAlwaysTheBest) {
  const auto nucleus = shares(logs({0.5f, 0.3f, 0.15f, 0.05f}), {.top_p = 0.7f, .seed = 6}, 4000);
  EXPECT_EQ(nucleus.size(), 2u);
  EXPECT_NEAR(nucleus.at(0), 0.625, 0.04);
  EXPECT_EQ(shares(logs({0.5f, 0.3f, 0.2f}), {.top_p = 0.01f, .seed = 6}, 500).size(), 1u);
  // equal tokens: the lower ids stay
  const auto flat = shares(std::vector<float>(10, 1.0f), {.top_p = 0.35f, .seed = 6}, 2000);
  EXPECT_EQ(flat.size(), 4u);
  EXPECT_EQ(flat.rbegin()->first, 3);
  // a nucleus of more than one sorted piece
  EXPECT_EQ(
      shares(std::vector<float>(2000, 0.0f), {.top_p = 0.5f, .seed = 6}, 8000).rbegin()->first,
      999);
}

TEST(Sampler, TopPIsTakenAfterTopKIsRenormalised) {
  // top-k 2 leaves 0.4 and 0.3, renormalised 0.571 and 0.429: the best alone reaches 0.55. Of the
  // whole distribution it would not.
  EXPECT_EQ(
      shares(logs({0.4f, 0.3f, 0.2f, 0.1f}), {.top_p = 0.55f, .top_k = 2, .seed = 8}, 1000).size(),
      1u);
  EXPECT_EQ(shares(logs({0.4f, 0.3f, 0.2f, 0.1f}), {.top_p = 0.55f, .seed = 8}, 1000).size(), 2u);
}

TEST(Sampler, MinPIsMeasuredAfterTemperature) {
  const std::vector<float> logits = logs({0.6f, 0.3f, 0.1f});
  EXPECT_EQ(shares(logits, {.min_p = 0.4f, .seed = 9}, 1000).size(), 2u);
  EXPECT_EQ(shares(logits, {.temperature = 2.0f, .min_p = 0.4f, .seed = 9}, 2000).size(),
            3u);  // sqrt(1/6) = 0.408
  EXPECT_EQ(shares(logits, {.min_p = 1.0f, .seed = 9}, 100).size(), 1u);
}

TEST(Sampler, SameSeedAndPositionSameToken) {
  const std::vector<float> logits(100, 0.0f);
  std::map<int, int> seen;
  for (std::uint64_t position = 0; position < 50; ++position) {
    const auto once = sample(logits, {.seed = 1}, position);
    EXPECT_EQ(once->id, sample(logits, {.seed = 1}, position)->id);
    ++seen[value_of(once->id)];
  }
  EXPECT_GT(seen.size(), 20u);
  EXPECT_NE(shares(logits, {.seed = 1}, 20), shares(logits, {.seed = 2}, 20));
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  std::vector<TokenLogprob> top;
  SamplingParams params{.temperature = 0.0f, .logit_bias = {{TokenId{2}, 100.0f}}, .n_logprobs = 2};
  const auto sampled = sample(logs({0.5f, 0.3f, 0.2f}), params, 0, &top);
  EXPECT_EQ(value_of(sampled->id), 2);
  EXPECT_NEAR(sampled->logprob, std::log(0.2f), 1e-6);
  EXPECT_EQ(sampled->rank, 3);
  ASSERT_EQ(top.size(), 2u);
  EXPECT_EQ(value_of(top[0].id), 0);
  EXPECT_EQ(value_of(top[1].id), 1);
  EXPECT_NEAR(top[0].logprob, std::log(0.5f), 1e-6);
  // ties: the lower ids, in order; the sampled token's number is the very same float
  params = {.temperature = 0.0f, .n_logprobs = 3};
  const auto tied = sample({1, 2, 2, 2, 2}, params, 0, &top);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(value_of(top[0].id), 1);
  EXPECT_EQ(value_of(top[2].id), 3);
  EXPECT_EQ(tied->logprob, top[0].logprob);
}

TEST(SamplingParams, OutOfRangeNamesTheField) {
  const struct {
    const char* field;
    SamplingParams params;
  } cases[] = {
      {"temperature", {.temperature = 3.0f}},
      {"temperature", {.temperature = NAN}},
      {"temperature", {.temperature = -0.1f}},
      {"top_p", {.top_p = 0.0f}},
      {"top_p", {.top_p = 1.1f}},
      {"min_p", {.min_p = -0.1f}},
      {"top_k", {.top_k = -5}},
      {"presence_penalty", {.presence_penalty = 3.0f}},
      {"frequency_penalty", {.frequency_penalty = -2.5f}},
      {"repetition_penalty", {.repetition_penalty = 0.0f}},
      {"repetition_penalty", {.repetition_penalty = 1e-40f}},
      {"repetition_penalty", {.repetition_penalty = 2e-38f}},
      {"repetition_penalty", {.repetition_penalty = kInf}},
      {"logit_bias", {.logit_bias = {{TokenId{10}, 1.0f}}}},
      {"allowed_token_ids", {.allowed_token_ids = {TokenId{-1}}}},
      {"top_logprobs", {.n_logprobs = 21}},
  };
  for (const auto& test : cases) {
    const Status status = check_sampling_params(test.params, 10);
    ASSERT_FALSE(status) << test.field;
    EXPECT_EQ(status.error().code, Code::kInvalidArgument);
    EXPECT_EQ(status.error().context, test.field);
  }
  EXPECT_TRUE(check_sampling_params({}, 10));
  EXPECT_TRUE(check_sampling_params({.repetition_penalty = kMinRepetitionPenalty}, 10));
  EXPECT_TRUE(check_sampling_params({.temperature = 2.0f, .top_p = 1.0f, .top_k = -1}, 10));
}

}  // namespace
}  // namespace gem8

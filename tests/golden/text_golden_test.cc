// The text decoder against Hugging Face transformers in float32, for every member of the family:
// each tensor within the bound that the golden file states for it (10 x the difference between two
// correct implementations).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "model/matrix.h"
#include "model/rope.h"
#include "tests/golden/text_model.h"

namespace gem8::testing {
namespace {

class TextGolden : public GoldenModelTest {
 protected:
  TextGolden() : GoldenModelTest(DType::kF32) {}

  double bound(const char* tensor) const {
    return facts_.find("tolerance_float32_abs")->find(tensor)->as_double();
  }
};

TEST_P(TextGolden, EveryTensorIsWithinItsFloat32Bound) {
  std::map<std::string, double> worst;
  const auto layers = static_cast<std::int32_t>(engine_.model->layers());
  for (const std::string& seq : golden_->sequences()) {
    SCOPED_TRACE(seq);
    const std::vector<TokenId> ids = golden_->tokens(seq + ".input_ids");
    const std::optional<Soft> soft = golden_->soft(seq);
    Recorder seen(engine_);
    const std::vector<float> logits = run(engine_, ids, &seen, {}, soft ? &*soft : nullptr);
    ASSERT_FALSE(logits.empty());
    const std::vector<std::int64_t> at = golden_->positions(seq);

    const auto compare = [&](const char* tensor, std::span<const float> mine,
                             std::span<const float> theirs) {
      const double difference = largest_difference(mine, theirs);
      worst[tensor] = std::max(worst[tensor], difference);
      EXPECT_LE(difference, bound(tensor)) << tensor;
    };
    const auto whole = [&](const char* tensor, std::span<const float> mine) {
      const std::string name = seq + "." + tensor;
      if (!golden_->has(name)) return;
      compare(tensor, take_rows(mine, mine.size() / ids.size(), at), golden_->floats(name));
    };
    const auto by_layer = [&](const char* tensor, auto&& mine_of) {
      const std::string name = seq + "." + tensor;
      if (!golden_->has(name)) return;
      std::vector<float> mine;
      for (std::int32_t i = 0; i < layers; ++i) {
        const std::vector<float>& rows = mine_of(i);
        const std::vector<float> taken = take_rows(rows, rows.size() / ids.size(), at);
        mine.insert(mine.end(), taken.begin(), taken.end());
      }
      compare(tensor, mine, golden_->floats(name));
    };
    whole("embed", seen.of(Tap::kEmbeddings));
    whole("ple", seen.of(Tap::kPerLayerInputs));
    by_layer("attn_out", [&](std::int32_t i) { return seen.of(Tap::kAttentionOut, i); });
    by_layer("mlp_out", [&](std::int32_t i) { return seen.of(Tap::kMlpOut, i); });
    by_layer("moe_out", [&](std::int32_t i) { return seen.of(Tap::kExpertsOut, i); });
    by_layer("router_logits", [&](std::int32_t i) { return seen.router_logits(i); });
    by_layer("hidden", [&](std::int32_t i) { return seen.of(Tap::kLayerOut, i); });
    whole("final_norm", seen.of(Tap::kFinalNorm));
    whole("logits", logits);

    if (golden_->has(
            seq +
            ".topk_ids")) {  // the order of experts of nearly equal probability does not matter
      const std::vector<std::int64_t> experts = golden_->ints(seq + ".topk_ids");
      const std::vector<float> weights = golden_->floats(seq + ".topk_weights");
      const std::size_t k = static_cast<std::size_t>(engine_.model->config().text.top_k_experts);
      std::size_t entry = 0;
      double difference = 0;
      for (std::int32_t i = 0; i < layers; ++i) {
        for (const std::int64_t row : at) {
          std::map<std::int64_t, float> mine, theirs;
          for (std::size_t j = 0; j < k; ++j, ++entry) {
            theirs[experts[entry]] = weights[entry];
            const std::size_t own = static_cast<std::size_t>(row) * k + j;
            mine[seen.chosen_experts(i)[own]] = seen.expert_weights(i)[own];
          }
          for (const auto& [expert, weight] : theirs) {
            ASSERT_TRUE(mine.contains(expert))
                << "layer " << i << " token " << row << " expert " << expert;
            difference = std::max(difference, std::abs(static_cast<double>(weight) - mine[expert]));
          }
        }
      }
      worst["topk_weights"] = std::max(worst["topk_weights"], difference);
      EXPECT_LE(difference, bound("topk_weights"));
    }
    if (golden_->has(seq + ".nll")) {
      const std::vector<float> theirs = golden_->floats(seq + ".nll");
      compare("nll", negative_log_likelihood(logits, ids, engine_.model->vocab()), theirs);
    }
  }
  for (const auto& [tensor, difference] : worst) {
    std::printf("float32 %-10s %-14s %.1e of %.1e (%.0f %%)\n", GetParam(), tensor.c_str(),
                difference, bound(tensor.c_str()),
                bound(tensor.c_str()) > 0 ? 100 * difference / bound(tensor.c_str()) : 0.0);
  }
}

TEST_P(TextGolden, GreedyIdsAreThoseOfTheReference) {
  const std::size_t vocab = static_cast<std::size_t>(engine_.model->vocab());
  for (const std::string& seq : golden_->sequences()) {
    if (!golden_->has(seq + ".greedy_ids")) continue;
    SCOPED_TRACE(seq);
    std::vector<TokenId> ids = golden_->tokens(seq + ".input_ids");
    const std::optional<Soft> soft = golden_->soft(seq);
    std::vector<SoftTokens> placed;
    const std::int64_t hidden = engine_.model->hidden();
    for (std::size_t i = 0, row = 0; soft && i < ids.size(); ++i) {
      if (!soft->at[i]) continue;
      placed.push_back({static_cast<std::int64_t>(i),
                        {soft->rows.data() + row++ * static_cast<std::size_t>(hidden), DType::kF32,
                         1, hidden, hidden}});
    }
    const auto cache = engine_.cache();
    const CacheSeq open = cache->open();
    auto logits = Matrix::create(*engine_.device, DType::kF32, 1, engine_.model->vocab());
    ASSERT_TRUE(logits);
    std::vector<TokenId> chosen;
    SequenceChunk chunk{
        .seq = open, .tokens = ids, .first_position = 0, .soft = placed, .logits = Logits::kLast};
    TokenId next{};
    while (chosen.size() < 32) {
      const Status status = engine_.model->forward({.chunks = {&chunk, 1}}, *cache, logits->mat());
      ASSERT_TRUE(status) << status.error().text();
      const std::vector<float> row = engine_.read(logits->mat());
      ASSERT_EQ(row.size(), vocab);
      next = TokenId{static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin())};
      chosen.push_back(next);
      chunk = {.seq = open,
               .tokens = {&next, 1},
               .first_position = cache->length(open),
               .soft = {},
               .logits = Logits::kLast};
    }
    EXPECT_EQ(chosen, golden_->tokens(seq + ".greedy_ids"));
  }
}

TEST_P(TextGolden, CacheHoldsTheReferencesKeysAndValues) {
  const std::string seq = golden_->has("s37.k.0") ? "s37" : "s7";
  const std::vector<TokenId> ids = golden_->tokens(seq + ".input_ids");
  const auto cache = engine_.cache();
  const CacheSeq open = cache->open();
  const SequenceChunk chunk{
      .seq = open, .tokens = ids, .first_position = 0, .soft = {}, .logits = Logits::kNone};
  // By the parts of a step, so that nothing leaves the window before it is read.
  Step step;
  ASSERT_TRUE(engine_.model->plan({.chunks = {&chunk, 1}}, *cache, step));
  auto hidden = Matrix::create(*engine_.device, DType::kF32, step.tokens, engine_.model->hidden());
  auto per_layer =
      Matrix::create(*engine_.device, DType::kF32, step.tokens, engine_.model->per_layer_width());
  ASSERT_TRUE(hidden && per_layer);
  engine_.model->embed({.chunks = {&chunk, 1}}, step, hidden->mat(), per_layer->mat());
  double worst_k = 0, worst_v = 0;
  int compared = 0;
  for (std::int32_t i = 0; i < engine_.model->layers(); ++i) {
    engine_.model->layer(i, step, hidden->mat(), per_layer->mat());
    const std::string k_name = seq + ".k." + std::to_string(i);
    const bool owns = !engine_.model->config().text.layers[static_cast<std::size_t>(i)].kv_shared;
    ASSERT_EQ(golden_->has(k_name), owns) << "layer " << i;
    if (!owns) continue;
    ++compared;
    const KvLayer& kv = cache->layer(i);
    const auto pages = cache->pages(open, cache->group(i));
    const std::vector<float> k = golden_->floats(k_name);
    const std::vector<float> v = golden_->floats(seq + ".v." + std::to_string(i));
    const auto heads = static_cast<std::size_t>(kv.kv_heads);
    const auto dim = static_cast<std::size_t>(kv.head_dim);
    const auto lanes = static_cast<std::size_t>(kv.k_lanes);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t slot =
            (static_cast<std::size_t>(pages[t / KvLayer::kPageTokens]) * heads + h) *
                KvLayer::kPageTokens +
            t % KvLayer::kPageTokens;
        const auto* cached_k = static_cast<const float*>(kv.k) + slot * lanes;
        const auto* cached_v = static_cast<const float*>(kv.v) + slot * dim;
        const float* golden_k = k.data() + (t * heads + h) * dim;
        const float* golden_v = v.data() + (t * heads + h) * dim;
        for (std::size_t lane = 0; lane < dim; ++lane) {
          worst_v =
              std::max(worst_v, std::abs(static_cast<double>(cached_v[lane]) - golden_v[lane]));
        }
        for (std::size_t lane = 0; lane < lanes;
             ++lane) {  // where K lies in V: the rotated lanes of each half
          const std::size_t of_head = lane < lanes / 2 ? lane : dim / 2 + lane - lanes / 2;
          worst_k =
              std::max(worst_k, std::abs(static_cast<double>(cached_k[lane]) - golden_k[of_head]));
        }
      }
    }
  }
  EXPECT_GT(compared, 0);
  EXPECT_LE(worst_k, bound("k"));
  EXPECT_LE(worst_v, bound("v"));
}

TEST_P(TextGolden, RopeFrequenciesAreThoseOfTheReference) {
  const TextConfig& config = engine_.model->config().text;
  for (const LayerConfig& layer : config.layers) {
    const std::vector<float> expected =
        golden_->floats(layer.full ? "inv_freq.full" : "inv_freq.sliding");
    const std::vector<float> mine =
        rope_frequencies(layer.full ? config.rope_full : config.rope_sliding, layer.head_dim);
    ASSERT_EQ(mine.size(), expected.size());
    for (std::size_t j = 0; j < mine.size(); ++j) {
      // Float32 powers of two mathematics libraries, both within an ulp of the true value.
      const auto ulps =
          std::bit_cast<std::int32_t>(mine[j]) - std::bit_cast<std::int32_t>(expected[j]);
      EXPECT_LE(std::abs(ulps), 2) << "pair " << j;
    }
  }
}

TEST_P(TextGolden, ChunksOfFiveThenSinglesAreBitwiseTheOneShot) {
  const std::vector<TokenId> ids = golden_->tokens("s37.input_ids");
  const std::vector<std::size_t> fives_then_ones = {5, 5, 5, 5, 1};
  EXPECT_EQ(run(engine_, ids, nullptr, fives_then_ones), run(engine_, ids));
  const std::vector<TokenId> longer = golden_->tokens("s130.input_ids");
  const std::vector<std::size_t> odd = {33, 31, 1, 7, 64};
  EXPECT_EQ(run(engine_, longer, nullptr, odd), run(engine_, longer));
}

TEST_P(TextGolden, SequencesInOneBatchAreBitwiseWhatTheyAreAlone) {
  const std::vector<TokenId> a = golden_->tokens("a11.input_ids");
  const std::vector<TokenId> b = golden_->tokens("b23.input_ids");
  const std::vector<float> a_alone = run(engine_, a);
  const std::vector<float> b_alone = run(engine_, b);
  const auto vocab = engine_.model->vocab();
  for (const bool a_first : {true, false}) {
    const auto cache = engine_.cache();
    const CacheSeq seq_a = cache->open();
    const CacheSeq seq_b = cache->open();
    // b arrives a third at a time; a arrives whole with b's last third.
    std::vector<float> together_a, together_b;
    for (std::size_t at = 0; at < b.size(); at += 8) {
      const std::size_t n = std::min<std::size_t>(8, b.size() - at);
      const bool last = at + n == b.size();
      std::vector<SequenceChunk> chunks = {{.seq = seq_b,
                                            .tokens = std::span(b).subspan(at, n),
                                            .first_position = static_cast<std::int64_t>(at),
                                            .soft = {},
                                            .logits = Logits::kAll}};
      if (last) {
        chunks.insert(
            a_first ? chunks.begin() : chunks.end(),
            {.seq = seq_a, .tokens = a, .first_position = 0, .soft = {}, .logits = Logits::kAll});
      }
      const Batch batch{.chunks = chunks};
      auto logits = Matrix::create(*engine_.device, DType::kF32, batch.logit_rows(), vocab);
      ASSERT_TRUE(logits);
      const Status status = engine_.model->forward(batch, *cache, logits->mat());
      ASSERT_TRUE(status) << status.error().text();
      std::vector<float> rows = engine_.read(logits->mat());
      if (last) {
        const std::size_t a_size = a_alone.size();
        const auto a_rows =
            rows.begin() + static_cast<std::ptrdiff_t>(a_first ? 0 : rows.size() - a_size);
        together_a.assign(a_rows, a_rows + static_cast<std::ptrdiff_t>(a_size));
        rows.erase(a_rows, a_rows + static_cast<std::ptrdiff_t>(a_size));
      }
      together_b.insert(together_b.end(), rows.begin(), rows.end());
    }
    EXPECT_EQ(together_a, a_alone);
    EXPECT_EQ(together_b, b_alone);
  }
}

INSTANTIATE_TEST_SUITE_P(Family, TextGolden, family(), family_name);

TEST(TextGoldenSharded, ShardsAndReleasedConfigStyleGiveTheSameBits) {
  const auto one = golden_path("models/tiny-26b");
  const auto sharded = golden_path("models/tiny-26b-sharded");
  const auto tensors = golden_path("text/tiny-26b.safetensors");
  if (!one || !sharded || !tensors)
    GTEST_SKIP() << "no golden data of tiny-26b-sharded (it does not ship with the sources)";
  const std::vector<TokenId> ids = Golden(*tensors).tokens("s37.input_ids");
  const Engine a = Engine::load(*one, {.activation_dtype = DType::kF32});
  const Engine b = Engine::load(*sharded, {.activation_dtype = DType::kF32});
  ASSERT_TRUE(a.model && b.model);
  EXPECT_EQ(run(a, ids), run(b, ids));
}

}  // namespace
}  // namespace gem8::testing

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

struct Shape {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  std::int64_t k_lanes;
  bool k_in_v;
};

/// A cache, its ops, and one sequence's queries, keys and values. Keys of a k_in_v shape are v *
/// k_norm in their unrotated lanes.
struct Case {
  Case(const Shape& shape_in, std::int64_t n, DType dtype_in, std::size_t threads,
       unsigned seed = 1)
      : shape(shape_in),
        dtype(dtype_in),
        pool(threads),
        device(make_cpu_device()),
        ops(make_cpu_ops(*device, pool, {dtype, Activations::kBF16}).value()),
        q(dtype, n, shape.heads * shape.head_dim, 16),
        k(dtype, n, shape.kv_heads * shape.head_dim),
        v(dtype, n, shape.kv_heads * shape.head_dim, 4),
        k_norm(DType::kBF16, 1, shape.head_dim) {
    std::mt19937 random(seed);
    q.fill_normal(random, 1.5f / std::sqrt(static_cast<float>(shape.head_dim)) * 2.0f);
    k.fill_normal(random);
    v.fill_normal(random);
    k_norm.fill_normal(random, 0.5f);
    if (shape.k_in_v) {
      for (std::int64_t t = 0; t < n; ++t) {
        for (std::int64_t i = 0; i < k.cols(); ++i) {
          const std::int64_t lane = i % shape.head_dim;
          if (lane % (shape.head_dim / 2) >= shape.k_lanes / 2)
            k.set(t, i, v.at(t, i) * k_norm.at(0, lane));
        }
      }
    }
    const std::int64_t n_pages = (n + KvLayer::kPageTokens - 1) / KvLayer::kPageTokens;
    for (std::int64_t p = 0; p < n_pages; ++p)
      pages.push_back(static_cast<std::int32_t>(n_pages - p));  // scattered, page 0 unused
    const auto cells =
        static_cast<std::size_t>((n_pages + 1) * shape.kv_heads * KvLayer::kPageTokens);
    // All bits set is NaN: a slot that was never written must not leak into any result.
    k_cache.assign(cells * static_cast<std::size_t>(shape.k_lanes) * dtype_bytes(dtype), 0xff);
    v_cache.assign(cells * static_cast<std::size_t>(shape.head_dim) * dtype_bytes(dtype), 0xff);
    layer = {k_cache.data(), v_cache.data(), dtype,        shape.kv_heads,
             shape.head_dim, shape.k_lanes,  shape.k_in_v, k_norm.param()};
  }

  /// Stores keys and values and attends, `chunk` rows at a time.
  TestMatrix run(std::int64_t chunk, std::int64_t window, std::span<const ImageBlock> blocks = {}) {
    TestMatrix y(dtype, q.rows(), q.cols(), 8);
    for (std::int64_t t = 0; t < q.rows(); t += chunk) {
      const std::int64_t n = std::min(chunk, q.rows() - t);
      const SequenceRows sequence{0, n, t, pages};
      ops->store_kv(k.view_rows(t, n), v.view_rows(t, n), layer, {&sequence, 1});
      ops->attention(q.view_rows(t, n), shape.heads, layer, {{&sequence, 1}, blocks, window},
                     y.mat_rows(t, n));
    }
    EXPECT_TRUE(y.guards_intact());
    return y;
  }

  Shape shape;
  DType dtype;
  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
  TestMatrix q, k, v, k_norm;
  std::vector<std::int32_t> pages;
  std::vector<unsigned char> k_cache, v_cache;
  KvLayer layer;
};

bool allowed(std::int64_t q, std::int64_t k, std::int64_t window,
             std::span<const ImageBlock> blocks) {
  if (window > 0 && k <= q - window) return false;
  if (k <= q) return true;
  for (const ImageBlock& block : blocks) {
    const auto inside = [&](std::int64_t p) {
      return p >= block.first_position && p < block.first_position + block.n_tokens;
    };
    if (inside(q) && inside(k)) return true;
  }
  return false;
}

void expect_formula(const Case& c, const TestMatrix& y, std::int64_t window,
                    std::span<const ImageBlock> blocks, std::int64_t step = 1) {
  const std::int64_t d = c.shape.head_dim;
  for (std::int64_t t = 0; t < c.q.rows(); t += step) {
    for (std::int64_t head = 0; head < c.shape.heads; ++head) {
      const std::int64_t kv = head / (c.shape.heads / c.shape.kv_heads) * d;
      std::vector<double> scores;
      std::vector<std::int64_t> keys;
      double largest = -1e300;
      double score_magnitude = 0.0;
      for (std::int64_t key = 0; key < c.q.rows(); ++key) {
        if (!allowed(t, key, window, blocks)) continue;
        double score = 0.0;
        double magnitude = 0.0;
        for (std::int64_t i = 0; i < d; ++i) {
          const double product = static_cast<double>(c.q.at(t, head * d + i)) * c.k.at(key, kv + i);
          score += product;
          magnitude += product * product;
        }
        scores.push_back(score);
        keys.push_back(key);
        largest = std::max(largest, score);
        score_magnitude = std::max(score_magnitude, std::sqrt(magnitude));
      }
      double sum = 0.0;
      for (double& score : scores) sum += score = std::exp(score - largest);
      for (std::int64_t i = 0; i < d; i += 3) {
        double want = 0.0;
        double magnitude = 0.0;
        for (std::size_t j = 0; j < keys.size(); ++j) {
          const double part = scores[j] / sum * c.v.at(keys[j], kv + i);
          want += part;
          magnitude += std::abs(part);
        }
        // Output rounding; float32 sums over lanes (in scores, hence relative in weights) and keys.
        // Where the norm weight is folded into the query, scores carry one more bf16 rounding per
        // lane, which adds up like a random walk: 4 of its deviations on both sides.
        double relative = static_cast<double>(d + static_cast<std::int64_t>(keys.size())) * 0x1p-22;
        if (c.shape.k_in_v && c.dtype == DType::kBF16) relative += 8.0 * 0x1p-9 * score_magnitude;
        if (c.shape.k_in_v && c.dtype == DType::kF32) relative += 1e-5;
        ASSERT_NEAR(y.at(t, head * d + i), want,
                    testing::rounding_bound(c.dtype, std::abs(want)) + relative * magnitude + 1e-6)
            << "row " << t << " head " << head << " lane " << i << " of " << d;
      }
    }
  }
}

constexpr Shape kShapes[] = {{4, 2, 16, 16, false},  {8, 2, 32, 16, true},
                             {4, 4, 24, 24, false},  {8, 1, 256, 256, false},
                             {4, 1, 512, 128, true}, {40, 1, 48, 48, false}};

TEST(Attention, MatchesItsFormula) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Shape& shape : kShapes) {
      for (const std::int64_t window : {0, 7, 33}) {
        Case c(shape, 77, dtype, 2);
        expect_formula(c, c.run(77, window), window, {}, shape.head_dim > 100 ? 7 : 1);
      }
    }
  }
}

TEST(Attention, ImageBlocksSeeBothWays) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Case c(kShapes[0], 100, dtype, 2);
    const ImageBlock blocks[] = {
        {0, 5, 9}, {0, 30, 40}, {1, 80, 10}};  // the last is another sequence's
    expect_formula(c, c.run(100, 12, blocks), 12, std::span(blocks).first(2));
  }
}

TEST(Attention, LongContextsAreMergedFromParts) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Case c({2, 1, 32, 32, false}, 2500, dtype, 2);
    expect_formula(c, c.run(700, 0), 0, {}, 97);
    expect_formula(c, c.run(1900, 1100), 1100, {}, 97);
  }
}

TEST(Attention, SameBitsForAnyChunkingAndThreads) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Shape& shape : {kShapes[0], kShapes[1], kShapes[4]}) {
      const std::int64_t n = shape.head_dim > 100 ? 90 : 1300;
      for (const std::int64_t window : {0, 50}) {
        const auto whole = Case(shape, n, dtype, 1).run(n, window).row_bytes();
        EXPECT_EQ(whole, Case(shape, n, dtype, 3).run(n, window).row_bytes());
        EXPECT_EQ(whole, Case(shape, n, dtype, 2).run(1, window).row_bytes())
            << shape.head_dim << " window " << window;
        EXPECT_EQ(whole, Case(shape, n, dtype, 2).run(37, window).row_bytes())
            << shape.head_dim << " window " << window;
      }
    }
  }
}

TEST(Attention, SequencesDoNotSeeEachOther) {
  const Shape shape = kShapes[1];
  Case first(shape, 40, DType::kBF16, 2, 1);
  Case second(shape, 23, DType::kBF16, 2, 2);
  const auto want_first = first.run(40, 0).row_bytes();
  const auto want_second = second.run(23, 0).row_bytes();

  // Both in one cache and one call, the second one first in the batch.
  Case both(shape, 63, DType::kBF16, 2);
  TestMatrix y(DType::kBF16, 63, both.q.cols());
  const auto copy = [](const TestMatrix& from, TestMatrix& to, std::int64_t row) {
    for (std::int64_t t = 0; t < from.rows(); ++t) {
      for (std::int64_t i = 0; i < from.cols(); ++i) to.set(row + t, i, from.at(t, i));
    }
  };
  for (const auto& [source, row] : {std::pair{&second, 0}, std::pair{&first, 23}}) {
    copy(source->q, both.q, row);
    copy(source->k, both.k, row);
    copy(source->v, both.v, row);
  }
  both.layer.k_norm = first.layer.k_norm;
  Case& norms = second;
  for (std::int64_t i = 0; i < shape.head_dim; ++i) norms.k_norm.set(0, i, first.k_norm.at(0, i));
  const auto want_second_same_norm = second.run(23, 0).row_bytes();
  ASSERT_NE(want_second, want_second_same_norm);
  const std::int32_t pages_second[] = {2};
  const std::int32_t pages_first[] = {0, 1};
  const SequenceRows sequences[] = {{0, 23, 0, pages_second}, {23, 40, 0, pages_first}};
  both.ops->store_kv(both.k.view(), both.v.view(), both.layer, sequences);
  both.ops->attention(both.q.view(), shape.heads, both.layer, {sequences, {}, 0}, y.mat());
  auto want = want_second_same_norm;
  want.insert(want.end(), want_first.begin(), want_first.end());
  EXPECT_EQ(y.row_bytes(), want);
}

}  // namespace
}  // namespace gem8

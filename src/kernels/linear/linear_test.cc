#include <gtest/gtest.h>

#include <map>

#include "formats/safetensors.h"
#include "kernels/linear/linear.h"
#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

struct Machine {
  explicit Machine(std::size_t threads = 2, DType dtype = DType::kBF16,
                   Activations activations = Activations::kBF16)
      : pool(threads),
        device(make_cpu_device()),
        ops(make_cpu_ops(*device, pool, {dtype, activations}).value()) {}
  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
};

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/// The exact x_t · w_r times the scale, and the sum of magnitudes.
struct Exact {
  double value = 0.0;
  double magnitude = 0.0;
};
Exact exact(const TestMatrix& x, std::int64_t t, const TestMatrix& w, std::int64_t r,
            double scale) {
  Exact sum;
  for (std::int64_t i = 0; i < w.cols(); ++i) {
    const double product = static_cast<double>(x.at(t, i)) * w.at(r, i) * scale;
    sum.value += product;
    sum.magnitude += std::abs(product);
  }
  return sum;
}

TEST(Linear, SeveralTasksOfOneInput) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    std::mt19937 random(4);
    for (const std::int64_t tokens : {1, 3, 12, 300}) {
      Machine machine(2, dtype);
      TestMatrix x(dtype, tokens, 96, 32);
      x.fill_normal(random);
      TestMatrix w8(DType::kF8E4M3, 130, 96);
      TestMatrix w16(DType::kBF16, 61, 96);
      w8.fill_normal(random, 30.0f);
      w16.fill_normal(random);
      TestMatrix y8(dtype, tokens, 130, 7);
      TestMatrix y16(DType::kF32, tokens, 61, 1);
      const LinearWeight weights[] = {w8.weight(0.03f), w16.weight()};
      const LinearTask tasks[] = {{&weights[0], y8.mat()}, {&weights[1], y16.mat()}};
      machine.ops->linear(x.view(), tasks);
      EXPECT_TRUE(y8.guards_intact());
      EXPECT_TRUE(y16.guards_intact());
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t r = 0; r < 130; ++r) {
          const Exact want = exact(x, t, w8, r, 0.03f);
          const double bound = testing::sum_bound(98, want.magnitude) +
                               testing::rounding_bound(dtype, std::abs(want.value));
          ASSERT_NEAR(y8.at(t, r), want.value, bound);
        }
        for (std::int64_t r = 0; r < 61; ++r) {
          const Exact want = exact(x, t, w16, r, 1.0);
          ASSERT_NEAR(y16.at(t, r), want.value, testing::sum_bound(98, want.magnitude));
        }
      }
    }
  }
}

TEST(Linear, GatedMatchesItsFormula) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    std::mt19937 random(5);
    for (const std::int64_t tokens : {1, 17}) {
      Machine machine(2, dtype);
      TestMatrix x(dtype, tokens, 80);
      TestMatrix gate(DType::kF8E4M3, 112, 80);
      TestMatrix up(DType::kF8E4M3, 112, 80);
      x.fill_normal(random);
      gate.fill_normal(random, 20.0f);
      up.fill_normal(random, 20.0f);
      TestMatrix y(dtype, tokens, 112, 9);
      machine.ops->gated_linear(x.view(), gate.weight(0.01f), up.weight(0.02f), y.mat());
      EXPECT_TRUE(y.guards_intact());
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t r = 0; r < 112; ++r) {
          const double g = exact(x, t, gate, r, 0.01f).value;
          const double u = exact(x, t, up, r, 0.02f).value;
          // Four roundings (gate, gelu, up, product); gelu's slope is at most 1.13.
          const double bound =
              4.2 * testing::rounding_bound(dtype, (std::abs(g) + 0.01) * (std::abs(u) + 0.01)) +
              (dtype == DType::kF32 ? 1e-5 * (1 + std::abs(g) * std::abs(u)) : 0.0);
          ASSERT_NEAR(y.at(t, r), gelu(g) * u, bound) << t << " " << r;
        }
      }
    }
  }
}

struct ExpertSet {
  std::vector<TestMatrix> matrices;
  std::vector<LinearWeight> gate, up, down;

  ExpertSet(std::mt19937& random, std::int64_t n, std::int64_t ffn, std::int64_t hidden,
            DType dtype, float input_scale = 0.0f) {
    matrices.reserve(static_cast<std::size_t>(3 * n));
    for (std::int64_t e = 0; e < n; ++e) {
      const float scale = dtype == DType::kF8E4M3 ? 0.004f + 0.001f * static_cast<float>(e) : 1.0f;
      const float deviation = dtype == DType::kF8E4M3 ? 30.0f : 0.15f;
      for (int which = 0; which < 3; ++which) {
        matrices.emplace_back(dtype, which == 2 ? hidden : ffn, which == 2 ? ffn : hidden)
            .fill_normal(random, deviation);
        (which == 0   ? gate
         : which == 1 ? up
                      : down)
            .push_back(matrices.back().weight(scale, input_scale));
      }
    }
  }
  ExpertWeights weights() const { return {gate, up, down}; }
  const TestMatrix& matrix(std::int32_t expert, int which) const {
    return matrices[static_cast<std::size_t>(3 * expert + which)];
  }
};

struct Routes {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  Routing routing;

  Routes(std::mt19937& random, std::int64_t tokens, std::int64_t top_k, std::int32_t n_experts) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::vector<std::int32_t> order;
      for (std::int32_t e = 0; e < n_experts; ++e) order.push_back(e);
      std::shuffle(order.begin(), order.end(), random);
      for (std::int64_t i = 0; i < top_k; ++i) {
        experts.push_back(order[static_cast<std::size_t>(i)]);
        weights.push_back(std::uniform_real_distribution<float>(0.05f, 0.6f)(random));
      }
    }
    routing = {experts.data(), weights.data(), tokens, top_k};
  }
};

TEST(Experts, MatchTheirFormula) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const DType w_dtype : {DType::kF8E4M3, DType::kBF16}) {
      std::mt19937 random(6);
      for (const std::int64_t tokens : {1, 2, 40}) {
        Machine machine(2, dtype);
        const ExpertSet set(random, 7, 48, 80, w_dtype);
        const Routes routes(random, tokens, 3, 7);
        TestMatrix x(dtype, tokens, 80, 16);
        x.fill_normal(random);
        TestMatrix y(dtype, tokens, 80, 3);
        std::vector<float> seen(7, 0.0f);
        machine.ops->experts(x.view(), routes.routing, set.weights(), y.mat(), {seen});
        EXPECT_TRUE(y.guards_intact());
        std::vector<double> largest(7, 0.0);
        for (std::int64_t t = 0; t < tokens; ++t) {
          std::vector<double> want(80, 0.0), magnitude(80, 0.0);
          for (std::int64_t i = t * 3; i < t * 3 + 3; ++i) {
            const std::int32_t e = routes.experts[static_cast<std::size_t>(i)];
            const auto index = static_cast<std::size_t>(e);
            for (std::int64_t f = 0; f < 48; ++f) {
              double h = gelu(exact(x, t, set.matrix(e, 0), f, set.gate[index].scale).value) *
                         exact(x, t, set.matrix(e, 1), f, set.up[index].scale).value;
              if (dtype == DType::kBF16) h = round_to_bf16(static_cast<float>(h));
              largest[index] = std::max(largest[index], std::abs(h));
              for (std::int64_t o = 0; o < 80; ++o) {
                const double part = h * set.matrix(e, 2).at(o, f) * set.down[index].scale *
                                    routes.weights[static_cast<std::size_t>(i)];
                want[static_cast<std::size_t>(o)] += part;
                magnitude[static_cast<std::size_t>(o)] += std::abs(part);
              }
            }
          }
          for (std::int64_t o = 0; o < 80; ++o) {
            // h may round to its other neighbour where the sums differ in the last bit: an ulp of
            // each term at worst, then the output's.
            const double bound =
                testing::rounding_bound(dtype, 2.0 * magnitude[static_cast<std::size_t>(o)]) +
                testing::sum_bound(48 * 3 + 80, magnitude[static_cast<std::size_t>(o)]);
            ASSERT_NEAR(y.at(t, o), want[static_cast<std::size_t>(o)], bound)
                << "token " << t << " of " << tokens;
          }
        }
        for (std::size_t e = 0; e < 7; ++e) EXPECT_NEAR(seen[e], largest[e], largest[e] * 0x1p-7);
      }
    }
  }
}

std::vector<unsigned char> experts_of(Machine& machine, const TestMatrix& x, std::int64_t first,
                                      std::int64_t n, Routes& routes, const ExpertSet& set) {
  TestMatrix y(DType::kBF16, n, set.down[0].out);
  const Routing part{routes.routing.experts + first * routes.routing.top_k,
                     routes.routing.weights + first * routes.routing.top_k, n,
                     routes.routing.top_k};
  machine.ops->experts(x.view_rows(first, n), part, set.weights(), y.mat(), {});
  return y.row_bytes();
}

TEST(Experts, SameBitsForAnyBatchAndThreads) {
  for (const Activations activations : {Activations::kBF16, Activations::kFP8}) {
    std::mt19937 random(7);
    Machine one(1, DType::kBF16, activations);
    Machine three(3, DType::kBF16, activations);
    const ExpertSet set(random, 16, 52, 136, DType::kF8E4M3, 0.02f);
    Routes routes(random, 45, 4, 16);
    TestMatrix x(DType::kBF16, 45, 136);
    x.fill_normal(random);
    const auto together = experts_of(one, x, 0, 45, routes, set);
    EXPECT_EQ(together, experts_of(three, x, 0, 45, routes, set));
    std::vector<unsigned char> singly;
    for (std::int64_t t = 0; t < 45; ++t) {
      const auto alone = experts_of(three, x, t, 1, routes, set);
      singly.insert(singly.end(), alone.begin(), alone.end());
    }
    EXPECT_EQ(together, singly);
  }
}

TEST(Linear, SameBitsForAnyBatchAndThreads) {
  for (const Activations activations : {Activations::kBF16, Activations::kFP8}) {
    std::mt19937 random(8);
    TestMatrix x(DType::kBF16, 70, 200);
    TestMatrix w(DType::kF8E4M3, 150, 200);
    x.fill_normal(random);
    w.fill_normal(random, 30.0f);
    for (const float input_scale : {0.0f, 0.01f}) {
      const LinearWeight weight = w.weight(0.01f, input_scale);
      const auto run = [&](std::size_t threads, std::int64_t chunk) {
        Machine machine(threads, DType::kBF16, activations);
        TestMatrix y(DType::kBF16, 70, 150);
        for (std::int64_t t = 0; t < 70; t += chunk) {
          const std::int64_t n = std::min<std::int64_t>(chunk, 70 - t);
          const LinearTask task{&weight, y.mat_rows(t, n)};
          machine.ops->linear(x.view_rows(t, n), {&task, 1});
        }
        return y.row_bytes();
      };
      const auto whole = run(1, 70);
      EXPECT_EQ(whole, run(3, 70));
      EXPECT_EQ(whole, run(2, 1));
      EXPECT_EQ(whole, run(2, 9));
      EXPECT_EQ(whole, run(1, 33));
    }
  }
}

/// Linears of a small checkpoint with the inputs, codes and outputs of the reference W8A8
/// arithmetic (float32 throughout).
TEST(Linear, W8A8GoldenExamples) {
  const auto file = SafetensorsFile::open(GEM8_TEST_DATA "/golden/quant/w8a8-linears.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().text();
  const auto floats = [&](const std::string& name) {
    const TensorInfo* tensor = file->find(name);
    EXPECT_NE(tensor, nullptr) << name;
    std::vector<float> values(tensor->n_elements());
    std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return values;
  };
  int modules = 0;
  Machine machine(2, DType::kF32, Activations::kFP8);
  for (const TensorInfo& weight : file->tensors()) {
    if (!weight.name.ends_with(".weight")) continue;
    ++modules;
    const std::string module = weight.name.substr(0, weight.name.size() - 7);
    const TensorInfo& input = *file->find(module + ".input");
    const std::int64_t tokens = input.shape[0];
    const std::vector<float> values = floats(module + ".input");
    const LinearWeight linear{weight.bytes.data(),
                              DType::kF8E4M3,
                              weight.shape[0],
                              weight.shape[1],
                              floats(module + ".weight_scale")[0],
                              floats(module + ".input_scale")[0]};
    const ConstMat x{values.data(), DType::kF32, tokens, linear.in, linear.in};

    TestMatrix y(DType::kF32, tokens, linear.out);
    const LinearTask task{&linear, y.mat()};
    machine.ops->linear(x, {&task, 1});
    const std::vector<float> want = floats(module + ".output");
    float largest = 0.0f;
    for (const float value : want) largest = std::max(largest, std::abs(value));
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t r = 0; r < linear.out; ++r) {
        ASSERT_NEAR(y.at(t, r), want[static_cast<std::size_t>(t * linear.out + r)], 1e-5 * largest)
            << module;
      }
    }

    const TensorInfo& codes = *file->find(module + ".code");
    for (const auto& row : testing::runnable(linear_rows())) {
      TestMatrix quantized(DType::kF32, tokens, linear.in);
      std::vector<float> scales(static_cast<std::size_t>(tokens));
      row.kernel.quantize({.x = x,
                           .static_scale = linear.input_scale,
                           .y = quantized.mat(),
                           .scales = scales.data()},
                          0, tokens);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto col = static_cast<std::int64_t>(i) % linear.in;
        ASSERT_EQ(quantized.at(static_cast<std::int64_t>(i) / linear.in, col),
                  kE4M3Values[static_cast<std::uint8_t>(codes.bytes[i])])
            << row.name << " " << module << " element " << i;
      }
    }
  }
  EXPECT_EQ(modules, 13);
}

}  // namespace
}  // namespace gem8

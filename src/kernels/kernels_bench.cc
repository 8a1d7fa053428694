// kernels_bench: the linears, experts and attention of Gemma 4 26B-A4B, each as a share of this
// machine's roof.
//
//   kernels_bench [--threads=N] [--rounds=N] [--tokens=1,8,64,512]
//
// Every round measures the roofs (streaming read, dot-product peak) and every shape in turn;
// medians over the rounds are compared, so that noise hits all alike. Weights rotate through more
// memory than the last-level cache holds. Shapes are cold unless they say warm. `roof` is the time
// that bytes / bandwidth or operations / peak allow, whichever is longer, as a share of the median
// time; `best` is the same of the fastest round against the fastest probes, which says more on a
// machine that others use too.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ceilings/ceilings.h"
#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using Clock = std::chrono::steady_clock;
using testing::TestMatrix;

constexpr std::int64_t kHidden = 2816;
constexpr std::size_t kColdBytes = std::size_t{192}
                                   << 20;  // several times a last-level cache of 32 MiB

struct Cost {
  double bytes = 0.0;
  double operations = 0.0;
};

/// One shape: run(i) does the work with the i-th copy of its weights.
struct Bench {
  std::string name;
  Cost cost;
  std::size_t copies = 1;
  std::function<void(std::size_t)> run;
  std::vector<double> seconds = {};
  std::vector<double> cpu_seconds = {};  ///< of all threads together
};

/// The first elements of a matrix as one of another shape: rows lie one after the other, as the
/// model has them.
Mat packed(TestMatrix& matrix, std::int64_t rows, std::int64_t cols) {
  Mat view = matrix.mat();
  view.rows = rows;
  view.cols = view.stride = cols;
  return view;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Random weights: every byte pattern but NaN, in memory of their own.
struct Weights {
  Weights(Device& device, DType dtype, std::int64_t out, std::int64_t in, std::size_t n) {
    const std::size_t bytes = static_cast<std::size_t>(out * in) * dtype_bytes(dtype);
    buffer = device.allocate(bytes * n).value();
    auto* codes = static_cast<std::uint8_t*>(buffer.address());
    std::uint64_t state = 88172645463325252ull;
    for (std::size_t i = 0; i < bytes * n; ++i) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      // BF16: exponents near 1; E4M3: all codes but the two NaN.
      codes[i] = dtype == DType::kBF16
                     ? (i % 2 == 1 ? static_cast<std::uint8_t>(0x3c + (state & 0x83))
                                   : static_cast<std::uint8_t>(state))
                     : static_cast<std::uint8_t>((state & 0x7f) == 0x7f ? 0x3f : state);
    }
    for (std::size_t i = 0; i < n; ++i)
      weights.push_back({codes + i * bytes, dtype, out, in, 0.001f, 0.0f});
  }
  Buffer buffer;
  std::vector<LinearWeight> weights;
};

struct Options {
  std::size_t threads = available_cores();
  int rounds = 15;
  std::vector<std::int64_t> tokens = {1, 8, 64, 512};
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto value = [&](std::string_view name) -> const char* {
      return argument.starts_with(name) ? argv[i] + name.size() : nullptr;
    };
    if (const char* threads = value("--threads="))
      options.threads = static_cast<std::size_t>(std::max(1, std::atoi(threads)));
    if (const char* rounds = value("--rounds=")) options.rounds = std::max(1, std::atoi(rounds));
    if (const char* tokens = value("--tokens=")) {
      options.tokens.clear();
      for (const char* p = tokens; *p != '\0';) {
        char* end = nullptr;
        options.tokens.push_back(std::strtol(p, &end, 10));
        p = *end == ',' ? end + 1 : end;
        if (end == tokens) break;
      }
    }
  }
  return options;
}

int run(const Options& options) {
  ThreadPool pool(options.threads);
  const auto device = make_cpu_device();
  const auto made = make_cpu_ops(*device, pool, {});
  if (!made) {
    fmt::print(stderr, "{}\n", made.error().text());
    return 1;
  }
  Ops& ops = **made;
  std::mt19937 random(1);
  const std::int64_t most = *std::max_element(options.tokens.begin(), options.tokens.end());
  TestMatrix x(DType::kBF16, most, 8192);
  x.fill_normal(random);
  TestMatrix y(DType::kBF16, most, 8192);
  const Buffer logits = device->allocate(static_cast<std::size_t>(262144) * 4).value();

  struct Shape {
    const char* name;
    DType dtype;
    std::int64_t out, in;
  };
  constexpr Shape kShapes[] = {
      {"q sliding", DType::kF8E4M3, 4096, kHidden}, {"q full", DType::kF8E4M3, 8192, kHidden},
      {"k or v", DType::kF8E4M3, 2048, kHidden},    {"o sliding", DType::kF8E4M3, kHidden, 4096},
      {"o full", DType::kF8E4M3, kHidden, 8192},    {"dense down", DType::kF8E4M3, kHidden, 2112},
  };
  std::vector<std::unique_ptr<Weights>> memory;
  std::vector<Bench> benches;
  const auto copies_of = [](double bytes) {
    return static_cast<std::size_t>(static_cast<double>(kColdBytes) / bytes) + 1;
  };

  for (const Shape& shape : kShapes) {
    const double bytes = static_cast<double>(shape.out * shape.in);
    memory.push_back(
        std::make_unique<Weights>(*device, shape.dtype, shape.out, shape.in, copies_of(bytes)));
    const auto& weights = memory.back()->weights;
    for (const std::int64_t tokens : options.tokens) {
      benches.push_back({fmt::format("{} x {}", shape.name, tokens),
                         {bytes, 2.0 * bytes * static_cast<double>(tokens)},
                         weights.size(),
                         [&, tokens, shape](std::size_t i) {
                           const ConstMat input = packed(x, tokens, shape.in);
                           const Mat output = packed(y, tokens, shape.out);
                           const LinearTask task{&weights[i], output};
                           ops.linear(input, {&task, 1});
                         }});
    }
  }
  // gate and up of the dense MLP; the weights of one expert are 704 rows of them, so the experts'
  // layer shares this memory.
  const double gate_bytes = 2112.0 * kHidden;
  memory.push_back(
      std::make_unique<Weights>(*device, DType::kF8E4M3, 2112, kHidden, copies_of(gate_bytes)));
  const auto& gates = memory.back()->weights;
  for (const std::int64_t tokens : options.tokens) {
    benches.push_back({fmt::format("dense gate+up x {}", tokens),
                       {2 * gate_bytes, 4.0 * gate_bytes * static_cast<double>(tokens)},
                       gates.size() / 2,
                       [&, tokens](std::size_t i) {
                         const ConstMat input = packed(x, tokens, kHidden);
                         const Mat output = packed(y, tokens, 2112);
                         ops.gated_linear(input, gates[2 * i], gates[2 * i + 1], output);
                       }});
  }
  const double expert_bytes = 3.0 * 704 * kHidden;
  memory.push_back(std::make_unique<Weights>(*device, DType::kF8E4M3, 704, kHidden, 3 * 128));
  std::vector<LinearWeight> gate, up, down;
  for (std::size_t e = 0; e < 128; ++e) {
    const auto& all = memory.back()->weights;
    gate.push_back(all[3 * e]);
    up.push_back(all[3 * e + 1]);
    down.push_back({all[3 * e + 2].data, DType::kF8E4M3, kHidden, 704, 0.001f, 0.0f});
  }
  std::vector<std::int32_t> chosen;
  std::vector<float> shares;
  constexpr std::size_t kRoutings = 16;
  for (std::size_t t = 0; t < kRoutings * static_cast<std::size_t>(most); ++t) {
    // Eight distinct experts: for single tokens consecutive routings share none, so that the
    // weights are cold.
    const std::size_t first = most == 1 ? t * 8 : random() % 128;
    for (std::size_t i = 0; i < 8; ++i) {
      chosen.push_back(static_cast<std::int32_t>((first + i * (1 + 2 * (first % 5))) % 128));
      shares.push_back(0.125f);
    }
  }
  for (const std::int64_t tokens : options.tokens) {
    std::vector<bool> active(128, false);
    for (std::int64_t i = 0; i < tokens * 8; ++i)
      active[static_cast<std::size_t>(chosen[static_cast<std::size_t>(i)])] = true;
    const auto n_active = static_cast<double>(std::count(active.begin(), active.end(), true));
    benches.push_back(
        {fmt::format("experts x {}", tokens),
         {n_active * expert_bytes, 2.0 * 8 * expert_bytes * static_cast<double>(tokens)},
         kRoutings,
         [&, tokens](std::size_t i) {
           const ConstMat input = packed(x, tokens, kHidden);
           const Mat output = packed(y, tokens, kHidden);
           const std::size_t at = tokens <= 8 ? i * 8 * static_cast<std::size_t>(tokens) : 0;
           ops.experts(input, {chosen.data() + at, shares.data() + at, tokens, 8}, {gate, up, down},
                       output, {});
         }});
  }
  const double head_bytes = 262144.0 * kHidden * 2;
  memory.push_back(std::make_unique<Weights>(*device, DType::kBF16, 262144, kHidden, 1));
  const LinearWeight head = memory.back()->weights[0];
  benches.push_back(
      {"head (bf16) x 1", {head_bytes, head_bytes}, 1, [&](std::size_t) {
         const ConstMat input = packed(x, 1, kHidden);
         const LinearTask task{&head, {logits.address(), DType::kF32, 1, 262144, 262144}};
         ops.linear(input, {&task, 1});
       }});

  // Attention over a long context: sliding layers (16 heads on 8, 256 lanes) see 1024 keys, full
  // ones (16 on 2, 512 lanes) all.
  struct Attention {
    const char* name;
    std::int64_t kv_heads, head_dim, k_lanes, context, window;
  };
  std::vector<std::int32_t> pages(16384 / 32);
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<std::int32_t>(i);
  const std::vector<float> k_norm(512, 1.0f);
  for (const Attention& shape : {Attention{"attention sliding", 8, 256, 256, 16384, 1024},
                                 Attention{"attention full", 2, 512, 128, 16384, 0}}) {
    const auto cells = shape.kv_heads * shape.context;
    memory.push_back(
        std::make_unique<Weights>(*device, DType::kBF16, cells, shape.head_dim + shape.k_lanes, 1));
    auto* cache = static_cast<std::byte*>(memory.back()->buffer.address());
    const KvLayer layer{cache,
                        cache + cells * shape.k_lanes * 2,
                        DType::kBF16,
                        shape.kv_heads,
                        shape.head_dim,
                        shape.k_lanes,
                        shape.k_lanes != shape.head_dim,
                        {k_norm.data(), DType::kF32, 512}};
    for (const std::int64_t tokens : {std::int64_t{1}, most}) {
      const double keys = static_cast<double>(shape.window > 0 ? shape.window : shape.context);
      const double lanes = static_cast<double>(shape.head_dim + shape.k_lanes);
      const double bytes = keys * static_cast<double>(shape.kv_heads) * lanes * 2;
      const double operations =
          2.0 * static_cast<double>(tokens) * keys * 16 * 2 * static_cast<double>(shape.head_dim);
      benches.push_back({fmt::format("{} x {}", shape.name, tokens),
                         {bytes, operations},
                         1,
                         [&, tokens, shape, layer](std::size_t) {
                           const SequenceRows sequence{0, tokens, shape.context - tokens, pages};
                           const ConstMat q = packed(x, tokens, 16 * shape.head_dim);
                           const Mat out = packed(y, tokens, q.cols);
                           ops.attention(q, 16, layer, {{&sequence, 1}, {}, shape.window}, out);
                         }});
    }
  }

  auto probe = ReadProbe::make(*device, pool);
  if (!probe) {
    fmt::print(stderr, "{}\n", probe.error().text());
    return 1;
  }
  const auto cpu_now = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  std::vector<double> bandwidth, peak, peak_per_cpu;
  for (int round = 0; round < options.rounds; ++round) {
    for (Bench& bench : benches) {
      // The roofs before every shape: what else runs on the machine changes from second to second.
      bandwidth.push_back(probe->run_once());
      auto start = Clock::now();
      double cpu_start = cpu_now();
      peak.push_back(bf16_peak_gflops(pool));
      const double probe_seconds = std::chrono::duration<double>(Clock::now() - start).count();
      // Operations per second of CPU time of one thread, in 10^9.
      peak_per_cpu.push_back(peak.back() * probe_seconds / (cpu_now() - cpu_start));
      const std::size_t copy = static_cast<std::size_t>(round) % bench.copies;
      start = Clock::now();
      cpu_start = cpu_now();
      bench.run(copy);
      bench.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      bench.cpu_seconds.push_back(cpu_now() - cpu_start);
    }
  }
  const double gigabytes = median(bandwidth);
  const double gigaflops = median(peak);
  const double most_gigabytes = *std::max_element(bandwidth.begin(), bandwidth.end());
  const double most_gigaflops = *std::max_element(peak.begin(), peak.end());
  fmt::print(
      "{} threads, rows up to {}; read {:.1f} GB/s, dot products {:.0f} GFLOP/s (medians of {} "
      "rounds; most {:.1f} and {:.0f})\n",
      pool.size(), isa::level_name(isa::choose().value_or(isa::Level::kReference)), gigabytes,
      gigaflops, options.rounds, most_gigabytes, most_gigaflops);
  fmt::print("{:28} {:>10} {:>8} {:>9} {:>9} {:>7} {:>7} {:>7} {:>13}\n", "shape", "median us",
             "spread", "GB/s", "GFLOP/s", "roof", "best", "cpu", "bound by");
  for (const Bench& bench : benches) {
    std::vector<double> sorted = bench.seconds;
    std::sort(sorted.begin(), sorted.end());
    const double seconds = sorted[sorted.size() / 2];
    const double spread = (sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4]) / seconds;
    const double memory_time = bench.cost.bytes / gigabytes * 1e-9;
    const double cpu_share =
        bench.cost.operations * 1e-9 / median(peak_per_cpu) / median(bench.cpu_seconds);
    const double best =
        std::max(bench.cost.bytes / most_gigabytes, bench.cost.operations / most_gigaflops) * 1e-9;
    const double math_time = bench.cost.operations / gigaflops * 1e-9;
    fmt::print("{:28} {:10.0f} {:7.0f}% {:9.1f} {:9.0f} {:6.0f}% {:6.0f}% {:>7} {:>13}\n",
               bench.name, seconds * 1e6, spread * 100, bench.cost.bytes / seconds * 1e-9,
               bench.cost.operations / seconds * 1e-9,
               std::max(memory_time, math_time) / seconds * 100, best / sorted.front() * 100,
               math_time > memory_time ? fmt::format("{:.0f}%", cpu_share * 100) : std::string("-"),
               memory_time > math_time ? "read" : "dot products");
  }
  return 0;
}

}  // namespace
}  // namespace gem8

int main(int argc, char** argv) {
  return gem8::run(gem8::parse(argc, argv));
}

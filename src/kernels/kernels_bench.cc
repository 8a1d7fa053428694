// kernels_bench: the linears, experts and attention of Gemma 4 26B-A4B, each as a share of this
// machine's roof.
//
//   kernels_bench [--threads=N] [--rounds=N] [--tokens=1,8,64,512]
//
// First one row of every answer is compared with the reference row's. Then every round measures the
// roofs (streaming read, dot-product peak) and every shape in turn; medians over the rounds are
// compared, so that noise hits all alike. Weights rotate through more memory than the last-level
// cache holds. `roof` is the time that bytes / bandwidth or operations / peak allow (cost.h),
// whichever is longer, as a share of the median time; `best` is the same of the fastest round
// against the fastest probes, which says more on a machine that others use too. `x ref` is how many
// times as fast as the reference row it is, which takes every row alone.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/ceilings/ceilings.h"
#include "kernels/cost.h"
#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using Clock = std::chrono::steady_clock;
using testing::TestMatrix;

constexpr std::int64_t kHidden = 2816;
constexpr std::int64_t kDenseFfn = 2112;
constexpr std::int64_t kExpertFfn = 704;
constexpr std::int64_t kExperts = 128;
constexpr std::int64_t kTopK = 8;
constexpr std::int64_t kHeads = 16;
constexpr std::int64_t kVocab = 262144;
constexpr std::int64_t kWidest = 8192;
/// Several times a last-level cache of 32 MiB.
constexpr std::size_t kColdBytes = std::size_t{192} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// CPU time of all threads together, in seconds.
double cpu_now() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Rows {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// One shape.
struct Case {
  std::string name;
  Cost cost;
  std::size_t copies = 1;  ///< of the weights
  std::int64_t tokens = 1;
  Mat output;  ///< of all tokens
  /// Computes these rows of the output with one copy of the weights.
  std::function<void(Ops&, std::size_t copy, Rows)> run;
};

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

/// As many copies of weights of so many bytes as no cache holds.
std::size_t cold_copies(std::int64_t bytes) {
  return kColdBytes / static_cast<std::size_t>(bytes) + 1;
}

/// All shapes and the memory they work in.
class Cases {
 public:
  Cases(Device& device, std::vector<std::int64_t> tokens)
      : device_(device),
        tokens_(std::move(tokens)),
        most_(*std::max_element(tokens_.begin(), tokens_.end())),
        x_(DType::kBF16, most_, kWidest),
        y_(DType::kBF16, most_, kWidest),
        logits_(device.allocate(static_cast<std::size_t>(kVocab) * 4).value()) {
    std::mt19937 random(1);
    x_.fill_normal(random);
    add_linears();
    add_gated_linear();
    add_experts();
    add_head();
    add_attention();
  }

  const std::vector<Case>& all() const { return cases_; }

 private:
  /// Rows of a matrix as the model has them: one after the other, so many elements wide.
  static Mat rows_of(TestMatrix& matrix, Rows rows, std::int64_t cols) {
    auto* data = static_cast<std::byte*>(matrix.mat().data);
    return {data + rows.first * cols * 2, DType::kBF16, rows.count, cols, cols};
  }
  Mat input(Rows rows, std::int64_t cols) { return rows_of(x_, rows, cols); }
  Mat output(Rows rows, std::int64_t cols) { return rows_of(y_, rows, cols); }

  std::span<const LinearWeight> weights(DType dtype, std::int64_t out, std::int64_t in,
                                        std::size_t copies) {
    memory_.push_back(std::make_unique<Weights>(device_, dtype, out, in, copies));
    return memory_.back()->weights;
  }

  void add_linears();
  void add_gated_linear();
  void add_experts();
  void add_head();
  void add_attention();
  void add_attention_layer(std::string_view name, const KvLayer& layer, std::int64_t window);

  static constexpr std::int64_t kContext = 16384;

  Device& device_;
  std::vector<std::int64_t> tokens_;
  std::int64_t most_;
  TestMatrix x_;
  TestMatrix y_;
  Buffer logits_;
  std::vector<std::unique_ptr<Weights>> memory_;
  std::vector<LinearWeight> gate_, up_, down_;  ///< of experts
  std::vector<std::int32_t> chosen_;
  std::vector<float> shares_;
  std::vector<std::int32_t> pages_;
  std::vector<float> k_norm_ = std::vector<float>(512, 1.0f);
  std::vector<Case> cases_;
};

void Cases::add_linears() {
  struct Shape {
    const char* name;
    std::int64_t out, in;
  };
  for (const Shape& shape :
       {Shape{"q sliding", 4096, kHidden}, Shape{"q full", kWidest, kHidden},
        Shape{"k or v", 2048, kHidden}, Shape{"o sliding", kHidden, 4096},
        Shape{"o full", kHidden, kWidest}, Shape{"dense down", kHidden, kDenseFfn}}) {
    const auto copies =
        weights(DType::kF8E4M3, shape.out, shape.in, cold_copies(shape.out * shape.in));
    for (const std::int64_t tokens : tokens_) {
      cases_.push_back({fmt::format("{} x {}", shape.name, tokens), linear_cost(copies[0], tokens),
                        copies.size(), tokens, output({0, tokens}, shape.out),
                        [this, copies, shape](Ops& ops, std::size_t copy, Rows rows) {
                          const LinearTask task{&copies[copy], output(rows, shape.out)};
                          ops.linear(input(rows, shape.in), {&task, 1});
                        }});
    }
  }
}

void Cases::add_gated_linear() {
  const auto copies = weights(DType::kF8E4M3, kDenseFfn, kHidden, cold_copies(kDenseFfn * kHidden));
  for (const std::int64_t tokens : tokens_) {
    Cost cost = linear_cost(copies[0], tokens);
    cost += linear_cost(copies[1], tokens);
    cases_.push_back({fmt::format("dense gate+up x {}", tokens), cost, copies.size() / 2, tokens,
                      output({0, tokens}, kDenseFfn),
                      [this, copies](Ops& ops, std::size_t copy, Rows rows) {
                        ops.gated_linear(input(rows, kHidden), copies[2 * copy],
                                         copies[2 * copy + 1], output(rows, kDenseFfn));
                      }});
  }
}

void Cases::add_experts() {
  constexpr std::size_t kRoutings = 16;
  const auto matrices = weights(DType::kF8E4M3, kExpertFfn, kHidden, 3 * kExperts);
  for (std::size_t e = 0; e < kExperts; ++e) {
    gate_.push_back(matrices[3 * e]);
    up_.push_back(matrices[3 * e + 1]);
    down_.push_back(matrices[3 * e + 2]);
    std::swap(down_.back().out, down_.back().in);
  }
  std::mt19937 random(2);
  for (std::size_t t = 0; t < kRoutings * static_cast<std::size_t>(most_); ++t) {
    // Distinct experts: for single tokens consecutive routings share none, so that the weights are
    // cold.
    const std::size_t first = most_ == 1 ? t * kTopK : random() % kExperts;
    for (std::size_t i = 0; i < kTopK; ++i) {
      chosen_.push_back(static_cast<std::int32_t>((first + i * (1 + 2 * (first % 5))) % kExperts));
      shares_.push_back(0.125f);
    }
  }
  for (const std::int64_t tokens : tokens_) {
    const std::set<std::int32_t> distinct(chosen_.begin(), chosen_.begin() + tokens * kTopK);
    cases_.push_back({fmt::format("experts x {}", tokens),
                      experts_cost({gate_, up_, down_}, tokens * kTopK,
                                   static_cast<std::int64_t>(distinct.size())),
                      kRoutings, tokens, output({0, tokens}, kHidden),
                      [this, tokens](Ops& ops, std::size_t copy, Rows rows) {
                        const std::int64_t routing =
                            tokens <= 8 ? static_cast<std::int64_t>(copy) * tokens : 0;
                        const std::int64_t at = (routing + rows.first) * kTopK;
                        ops.experts(input(rows, kHidden),
                                    {chosen_.data() + at, shares_.data() + at, rows.count, kTopK},
                                    {gate_, up_, down_}, output(rows, kHidden), {});
                      }});
  }
}

void Cases::add_head() {
  const LinearWeight head = weights(DType::kBF16, kVocab, kHidden, 1)[0];
  const Mat logits{logits_.address(), DType::kF32, 1, kVocab, kVocab};
  cases_.push_back({"head (bf16) x 1", linear_cost(head, 1), 1, 1, logits,
                    [this, head, logits](Ops& ops, std::size_t, Rows rows) {
                      const LinearTask task{&head, logits};
                      ops.linear(input(rows, kHidden), {&task, 1});
                    }});
}

/// Over a long context: sliding layers see 1024 keys, full ones all.
void Cases::add_attention() {
  for (std::int32_t page = 0; page < kContext / KvLayer::kPageTokens; ++page)
    pages_.push_back(page);
  add_attention_layer("attention sliding", {.kv_heads = 8, .head_dim = 256, .k_lanes = 256}, 1024);
  add_attention_layer("attention full",
                      {.kv_heads = 2, .head_dim = 512, .k_lanes = 128, .k_in_v = true}, 0);
}

void Cases::add_attention_layer(std::string_view name, const KvLayer& shape, std::int64_t window) {
  const std::int64_t cells = shape.kv_heads * kContext;
  auto* cache = static_cast<std::byte*>(
      const_cast<void*>(weights(DType::kBF16, cells, shape.head_dim + shape.k_lanes, 1)[0].data));
  KvLayer layer = shape;
  layer.k = cache;
  layer.v = cache + cells * shape.k_lanes * 2;
  layer.k_norm = {k_norm_.data(), DType::kF32, 512};
  for (const std::int64_t tokens : std::set<std::int64_t>{1, most_}) {
    const auto keys = static_cast<double>(window > 0 ? window : kContext);
    cases_.push_back(
        {fmt::format("{} x {}", name, tokens),
         attention_cost(kHeads, layer, keys, keys * static_cast<double>(tokens)), 1, tokens,
         output({0, tokens}, kHeads * layer.head_dim),
         [this, tokens, layer, window](Ops& ops, std::size_t, Rows rows) {
           const SequenceRows sequence{0, rows.count, kContext - tokens + rows.first, pages_};
           const std::int64_t width = kHeads * layer.head_dim;
           ops.attention(input(rows, width), kHeads, layer, {{&sequence, 1}, {}, window},
                         output(rows, width));
         }});
  }
}

/// Ops of the reference rows, whatever level the others run at.
Result<std::unique_ptr<Ops>> make_reference_ops(Device& device, ThreadPool& pool) {
  const char* set = std::getenv("GEM8_ISA");
  const std::optional<std::string> level = set ? std::optional<std::string>(set) : std::nullopt;
  setenv("GEM8_ISA", "reference", 1);
  auto ops = make_cpu_ops(device, pool, {});
  level ? setenv("GEM8_ISA", level->c_str(), 1) : unsetenv("GEM8_ISA");
  return ops;
}

std::vector<float> last_row(const Case& shape) {
  const Mat& y = shape.output;
  std::vector<float> values(static_cast<std::size_t>(y.cols));
  const auto* row = static_cast<const std::byte*>(y.data) +
                    (y.rows - 1) * y.stride * static_cast<std::int64_t>(dtype_bytes(y.dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (y.dtype == DType::kF32) {
      std::memcpy(&values[i], row + 4 * i, 4);
    } else {
      std::uint16_t bits;
      std::memcpy(&bits, row + 2 * i, 2);
      values[i] = static_cast<float>(BF16::from_bits(bits));
    }
  }
  return values;
}

/// The seconds the reference takes for one row. Error: kInternal where the rows differ by more than
/// a few roundings to BF16, one of which is 2^-9 of the value.
Result<double> check(const Case& shape, Ops& ops, Ops& reference) {
  constexpr double kMostError = 0x1p-7;
  shape.run(ops, 0, {0, shape.tokens});
  const std::vector<float> found = last_row(shape);
  const auto start = Clock::now();
  shape.run(reference, 0, {shape.tokens - 1, 1});
  const double seconds = seconds_since(start);
  const std::vector<float> wanted = last_row(shape);
  double error = 0.0, power = 0.0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - static_cast<double>(wanted[i]), 2);
    power += std::pow(static_cast<double>(wanted[i]), 2);
  }
  if (!(std::sqrt(error) <= kMostError * std::sqrt(power)) || power == 0.0)
    return fail(Code::kInternal, "{}: differs from the reference by {:.2g} of its size", shape.name,
                std::sqrt(error / power));
  return seconds;
}

/// What the clock said.
struct Times {
  double reference = 0.0;  ///< one row
  std::vector<double> seconds = {};
  std::vector<double> cpu_seconds = {};  ///< of all threads together
};

struct Roofs {
  std::vector<double> bandwidth;     ///< GB/s
  std::vector<double> peak;          ///< 10^9 operations/s of all threads
  std::vector<double> peak_per_cpu;  ///< 10^9 operations per second of one thread's CPU time
};

void measure_roofs(ReadProbe& probe, ThreadPool& pool, Roofs& roofs) {
  roofs.bandwidth.push_back(probe.run_once());
  const auto start = Clock::now();
  const double cpu_start = cpu_now();
  roofs.peak.push_back(bf16_peak_gflops(pool));
  roofs.peak_per_cpu.push_back(roofs.peak.back() * seconds_since(start) / (cpu_now() - cpu_start));
}

void print(const Case& shape, const Times& times, const Roofs& roofs) {
  std::vector<double> sorted = times.seconds;
  std::sort(sorted.begin(), sorted.end());
  const double seconds = sorted[sorted.size() / 2];
  const double spread = (sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4]) / seconds;
  const double read = shape.cost.bytes / median(roofs.bandwidth) * 1e-9;
  const double math = shape.cost.operations / median(roofs.peak) * 1e-9;
  const double best =
      1e-9 *
      std::max(shape.cost.bytes / *std::max_element(roofs.bandwidth.begin(), roofs.bandwidth.end()),
               shape.cost.operations / *std::max_element(roofs.peak.begin(), roofs.peak.end()));
  const double cpu_share =
      shape.cost.operations * 1e-9 / median(roofs.peak_per_cpu) / median(times.cpu_seconds);
  fmt::print("{:28} {:10.0f} {:7.0f}% {:9.1f} {:9.0f} {:6.0f}% {:6.0f}% {:>7} {:8.0f} {:>13}\n",
             shape.name, seconds * 1e6, spread * 100, shape.cost.bytes / seconds * 1e-9,
             shape.cost.operations / seconds * 1e-9, std::max(read, math) / seconds * 100,
             best / sorted.front() * 100,
             math > read ? fmt::format("{:.0f}%", cpu_share * 100) : std::string("-"),
             times.reference * static_cast<double>(shape.tokens) / seconds,
             read > math ? "read" : "dot products");
}

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
        options.tokens.push_back(std::max(1L, std::strtol(p, &end, 10)));
        p = *end == ',' ? end + 1 : end;
        if (end == tokens) break;
      }
    }
  }
  if (options.tokens.empty()) options.tokens = {1};
  return options;
}

Status run(const Options& options) {
  ThreadPool pool(options.threads);
  const auto device = make_cpu_device();
  GEM8_TRY(const auto ops, make_cpu_ops(*device, pool, {}));
  GEM8_TRY(const auto reference, make_reference_ops(*device, pool));
  GEM8_TRY(auto probe, ReadProbe::make(*device, pool));
  const Cases cases(*device, options.tokens);

  std::vector<Times> times;
  for (const Case& shape : cases.all()) {
    GEM8_TRY(const double seconds, check(shape, *ops, *reference));
    times.push_back({seconds});
  }
  Roofs roofs;
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < cases.all().size(); ++i) {
      const Case& shape = cases.all()[i];
      // The roofs before every shape: what else runs on the machine changes from second to second.
      measure_roofs(probe, pool, roofs);
      const auto start = Clock::now();
      const double cpu_start = cpu_now();
      shape.run(*ops, static_cast<std::size_t>(round) % shape.copies, {0, shape.tokens});
      times[i].seconds.push_back(seconds_since(start));
      times[i].cpu_seconds.push_back(cpu_now() - cpu_start);
    }
  }
  fmt::print(
      "{} threads, rows up to {}; read {:.1f} GB/s, dot products {:.0f} GFLOP/s (medians of {} "
      "rounds; most {:.1f} and {:.0f})\n",
      pool.size(), isa::level_name(isa::choose().value_or(isa::Level::kReference)),
      median(roofs.bandwidth), median(roofs.peak), options.rounds,
      *std::max_element(roofs.bandwidth.begin(), roofs.bandwidth.end()),
      *std::max_element(roofs.peak.begin(), roofs.peak.end()));
  fmt::print("{:28} {:>10} {:>8} {:>9} {:>9} {:>7} {:>7} {:>7} {:>8} {:>13}\n", "shape",
             "median us", "spread", "GB/s", "GFLOP/s", "roof", "best", "cpu", "x ref", "bound by");
  for (std::size_t i = 0; i < times.size(); ++i) print(cases.all()[i], times[i], roofs);
  return {};
}

}  // namespace
}  // namespace gem8

int main(int argc, char** argv) {
  const gem8::Status status = gem8::run(gem8::parse(argc, argv));
  if (!status) {
    fmt::print(stderr, "kernels_bench: {}\n", status.error().text());
    return 1;
  }
}

#include "kernels/ceilings/ceilings.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

namespace gem8 {

#define ROW(needs, kernel, numerics) extern const CeilingKernel kernel;
#include "kernels/ceilings/ceilings.inc"
#undef ROW

std::span<const isa::Row<CeilingKernel>> ceiling_rows() {
  static const isa::Row<CeilingKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/ceilings/ceilings.inc"
#undef ROW
  };
  return rows;
}

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const CeilingKernel& chosen() {
  return isa::pick(ceiling_rows(), isa::choose().value_or(isa::Level::kReference)).kernel;
}

}  // namespace

Result<ReadProbe> ReadProbe::make(Device& cpu, ThreadPool& pool, std::size_t bytes) {
  GEM8_TRY(Buffer memory, cpu.allocate((bytes + kChunk - 1) / kChunk * kChunk));
  // Untouched pages all map to one page of zeros, which a cache holds.
  std::memset(memory.address(), 0x5a, memory.bytes());
  return ReadProbe(pool, std::move(memory), chosen());
}

ReadProbe::ReadProbe(ThreadPool& pool, Buffer memory, const CeilingKernel& kernel)
    : pool_(&pool), memory_(std::move(memory)), kernel_(kernel) {}

double ReadProbe::run_once() {
  std::atomic<std::uint64_t> sum{0};  // so that no read can be left out
  const auto start = std::chrono::steady_clock::now();
  pool_->parallel_for(memory_.bytes() / kChunk, [&](std::size_t chunk, std::size_t) {
    const auto* data = static_cast<const std::byte*>(memory_.address()) + chunk * kChunk;
    sum.fetch_add(kernel_.read(data, kChunk), std::memory_order_relaxed);
  });
  const double seconds = seconds_since(start);
  return sum.load() == 1 ? 0.0 : static_cast<double>(memory_.bytes()) / seconds * 1e-9;
}

double bf16_peak_gflops(ThreadPool& pool) {
  const CeilingKernel& kernel = chosen();
  constexpr std::int64_t kRounds = 20000;
  constexpr std::size_t kItemsPerThread = 160;
  std::atomic<double> operations{0.0};
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(pool.size() * kItemsPerThread, [&](std::size_t, std::size_t) {
    operations.fetch_add(kernel.multiply(kRounds));
  });
  return operations.load() / seconds_since(start) * 1e-9;
}

}  // namespace gem8

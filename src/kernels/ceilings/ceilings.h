#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/device.h"
#include "foundation/thread_pool.h"
#include "kernels/isa/isa.h"

namespace gem8 {

/// What this machine can do at most, measured with the same threads as the work that is held
/// against it. Machines are noisy: call run_once() in turn with the measured work and compare
/// medians, never numbers from two runs of a program.

/// One variant of the probes' inner loops.
struct CeilingKernel {
  /// Reads `bytes` (a multiple of 512) in order with the widest loads; the result depends on every
  /// byte.
  std::uint64_t (*read)(const void* data, std::size_t bytes) noexcept;
  /// Multiply-adds of bf16 pairs (or of floats, where there is no such instruction) in registers
  /// alone; returns the operations done, two for a multiply-add.
  double (*multiply)(std::int64_t rounds) noexcept;
};

std::span<const isa::Row<CeilingKernel>> ceiling_rows();

/// Streaming read bandwidth over more memory than caches hold.
class ReadProbe {
 public:
  /// Error: kExhausted when there is no memory for `bytes`.
  static Result<ReadProbe> make(Device& cpu, ThreadPool& pool,
                                std::size_t bytes = std::size_t{512} << 20);

  /// Reads all of it once, all threads; GB/s (10^9).
  double run_once();

 private:
  ReadProbe(ThreadPool& pool, Buffer memory, const CeilingKernel& kernel);

  ThreadPool* pool_;
  Buffer memory_;
  CeilingKernel kernel_;
};

/// Dot-product peak of all threads together, in 10^9 operations per second: some 20 ms of
/// register-only multiply-adds. BF16 products where the CPU (or the level that GEM8_ISA forces) has
/// them, float32 otherwise: what the linears use at that level.
double bf16_peak_gflops(ThreadPool& pool);

}  // namespace gem8

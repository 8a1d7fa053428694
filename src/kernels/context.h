#pragma once

#include <cstddef>
#include <vector>

#include "foundation/thread_pool.h"
#include "kernels/runs.h"
#include "kernels/workspace.h"

namespace gem8 {

/// What every family's driver works with: the pool, and scratch memory that lives as long as the
/// ops.
struct KernelContext {
  explicit KernelContext(ThreadPool& threads)
      : pool(threads), runs(threads), per_thread(threads.size()) {}

  /// Scratch of one pool thread, touched only by it.
  struct PerThread {
    Scratch sums;    ///< F32 results of a tile before their epilogue
    Scratch unpack;  ///< a weight tile as BF16
    Scratch state;   ///< attention accumulators, expert sums
  };

  ThreadPool& pool;
  Runs runs;
  std::vector<PerThread> per_thread;

  // Shared by the threads of one op; written by the caller or by one parallel region, read by the
  // next.
  Scratch pointers;   ///< row addresses
  Scratch quantized;  ///< W8A8 inputs
  Scratch scales;     ///< W8A8 input scales, one per token
  Scratch items;      ///< work items
  Scratch hidden;     ///< expert intermediates; normed router input
  Scratch hidden_quantized;
  Scratch hidden_scales;
  Scratch partials;  ///< attention partial results
};

/// Runs body(begin, end, thread) over [0, n) in chunks of about `grain`. Small work stays on the
/// calling thread: waking the pool costs some microseconds.
template <class Body>
void for_ranges(ThreadPool& pool, std::size_t n, std::size_t grain, Body&& body) {
  if (n == 0) return;
  if (n <= grain || pool.size() == 1) {
    body(std::size_t{0}, n, std::size_t{0});
    return;
  }
  const std::size_t chunks = (n + grain - 1) / grain;
  pool.parallel_for(chunks, [&](std::size_t chunk, std::size_t thread) {
    const std::size_t begin = chunk * grain;
    body(begin, begin + grain < n ? begin + grain : n, thread);
  });
}

/// Rows per chunk so that a chunk is about `elements` of work.
inline std::size_t rows_per_chunk(std::int64_t cols, std::int64_t elements = 32768) {
  return static_cast<std::size_t>(cols >= elements ? 1 : elements / (cols < 1 ? 1 : cols));
}

}  // namespace gem8

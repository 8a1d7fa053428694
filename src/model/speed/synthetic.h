#pragma once

#include <memory>

#include "formats/checkpoint.h"
#include "foundation/thread_pool.h"

namespace gem8 {

/// A static FP8 checkpoint with the layer shapes of Gemma 4 26B-A4B and random weights, in memory:
/// for measuring speed without one.
///
/// `n_layers` of the real 30 (about 0.8 GB each, plus 1.5 GB of bf16 embeddings), in the real
/// pattern of five sliding layers and one full. Codes are random over all finite values, scales
/// keep activations near one. `n_vision_layers` of the real 27 of the image tower, bf16 (41 MB
/// each, plus 56 MB); 0: no tower. Errors: kExhausted (memory), kInvalidArgument.
Result<std::shared_ptr<const Checkpoint>> make_synthetic_26b_a4b(int n_layers, ThreadPool& pool,
                                                                 int n_vision_layers = 0);

}  // namespace gem8

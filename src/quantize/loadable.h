#pragma once

#include <memory>

#include "formats/checkpoint.h"
#include "foundation/result.h"
#include "foundation/thread_pool.h"

namespace gem8 {

/// Whether the engine could load `checkpoint`: every tensor that it reads is there in the shape and
/// element type that the config asks for, those of the image tower too where any of them is stored.
/// Reads headers and single numbers only. Errors: those of Model::load() and VisionTower::load().
Status check_loadable(std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool);

}  // namespace gem8

#pragma once

#include <memory>

#include "engine/engine_options.h"
#include "engine/model_runner.h"
#include "engine/scheduler.h"

namespace gem8 {

/// The sequence that a request becomes, when the engine can run it; `engine` is woken by its
/// reader. From any thread: asks the runner only for what never changes. Errors: kInvalidArgument;
/// the context names the field of the request.
Result<std::unique_ptr<Sequence>> make_sequence(EngineRequest request, const EngineOptions& options,
                                                const ModelRunner& runner,
                                                std::shared_ptr<Signal> engine);

}  // namespace gem8

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "foundation/result.h"

namespace gem8 {

/// The folder DIR means on the command line: a folder; a hub id "org/name" found in the Hugging
/// Face cache
/// ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub; the revision of refs/main, else the
/// newest snapshot that has a config.json); or "demo", the model that ships with gem8. Errors:
/// kNotFound, listing what was tried; kInvalidArgument for an empty name or a file.
Result<std::filesystem::path> resolve_model_dir(std::string_view name);

}  // namespace gem8

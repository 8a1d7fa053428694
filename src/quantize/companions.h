#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "foundation/result.h"
#include "quantize/fingerprint.h"

/// The files of a checkpoint folder beside its weights and config.json: tokenizer, chat template,
/// generation and processor settings, model card.
namespace gem8 {

/// Names of the files that go along into a converted checkpoint, sorted: all but weights, the
/// config, and data sets (*.jsonl), whose pictures would not be there. Errors: of the file system.
Result<std::vector<std::string>> companion_files(const std::filesystem::path& dir);

/// Errors: of the file system; kExhausted when the disk is full.
Status copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

/// The first companion of `from` that `to` lacks or has otherwise; empty when all are the same.
Result<std::string> different_companion(const std::filesystem::path& from,
                                        const std::filesystem::path& to);

/// Names and contents, so that a changed chat template is another source.
Status add_companions(const std::filesystem::path& dir, Fingerprint& fingerprint);

/// The companions that engines read and cannot: file name and what is wrong with it. What is merely
/// missing, or of a kind that gem8 does not read, is not among them.
std::vector<std::pair<std::string, Error>> broken_companions(const std::filesystem::path& dir);

}  // namespace gem8

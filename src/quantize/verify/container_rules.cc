// V-34, V-35: files, headers, index.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>

#include "quantize/loadable.h"
#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

/// The tensors the source has and this checkpoint should, under the names it should use.
std::vector<std::string> expected_names(const Subject& subject) {
  std::vector<std::string> names;
  const Checkpoint& source = *subject.source;
  for (const CheckpointTensor& tensor : source.tensors()) {
    const std::string& name = tensor.info->name;
    const auto canonical = source.canonical_text_name(name);
    if (!canonical) {
      names.push_back(name);
      continue;
    }
    // Linears and heads have rules of their own.
    const bool linear = canonical->find("_proj") != std::string::npos &&
                        canonical->find("router.") == std::string::npos;
    if (!linear && *canonical != "lm_head.weight")
      names.push_back(subject.text_prefix + *canonical);
  }
  return names;
}

void check_index_against_shards(const Subject& subject, Findings& findings) {
  const ShardIndex& index = *subject.index;
  std::set<std::string_view> listed_files;
  for (const auto& [tensor, file] : index.weight_map) listed_files.insert(file);
  for (const std::string_view file : listed_files) {
    const bool there =
        std::ranges::any_of(subject.files, [&](const File& f) { return f.name == file; });
    if (!there) {
      findings.error(34, {}, std::string(file), "listed in the index, but not in the folder");
    }
  }
  for (const File& file : subject.files) {
    if (!listed_files.contains(file.name)) {
      findings.warning(34, {}, file.name, "in the folder, but not in the index");
    }
  }
  for (const auto& [tensor, file] : index.weight_map) {
    const auto range = std::ranges::equal_range(subject.tensors, tensor, {}, &Stored::name);
    if (range.empty()) {
      findings.error(34, tensor, file, "listed in the index, but no shard holds it");
    } else if (std::ranges::none_of(
                   range, [&](const Stored& stored) { return subject.file_of(stored) == file; })) {
      findings.error(34, tensor, file,
                     fmt::format("the index names this file, but {} holds the tensor",
                                 subject.file_of(range.front())));
    }
  }
  std::uint64_t total = 0;
  for (const Stored& stored : subject.tensors) {
    if (!listed_files.contains(subject.file_of(stored))) continue;
    if (stored.info != nullptr) total += stored.info->bytes.size();
    if (!index.weight_map.contains(stored.name)) {
      findings.error(34, stored.name, subject.file_of(stored), "in a shard, but not in the index");
    }
  }
  if (!index.total_size) {
    findings.warning(34, {}, std::string(kIndexFileName), "no metadata.total_size");
  } else if (*index.total_size != total) {
    findings.warning(
        34, {}, std::string(kIndexFileName),
        fmt::format("total_size {}, the tensors have {} bytes", *index.total_size, total));
  }
}

void check_duplicates(const Subject& subject, Findings& findings) {
  for (std::size_t i = 1; i < subject.tensors.size(); ++i) {
    const Stored& stored = subject.tensors[i];
    if (stored.name != subject.tensors[i - 1].name) continue;
    const std::string file = subject.file_of(stored);
    const std::string message =
        fmt::format("also stored in {}", subject.file_of(subject.tensors[i - 1]));
    // A file the index does not know is a warning of its own; its contents are not read.
    const auto listed = [&](std::string_view name) {
      if (!subject.index) return true;
      return std::ranges::any_of(subject.index->weight_map,
                                 [&](const auto& entry) { return entry.second == name; });
    };
    if (listed(file) && listed(subject.file_of(subject.tensors[i - 1]))) {
      findings.error(34, stored.name, file, message);
    }
  }
}

}  // namespace

void check_container(const Subject& subject, Findings& findings) {
  for (const auto& [name, why] : subject.unreadable_files) findings.error(35, {}, name, why);
  for (const File& file : subject.files) {
    for (const ContainerFinding& finding : file.report.findings) {
      findings.error(35, finding.tensor, file.name, finding.message);
    }
  }
  if (subject.index_exists && !subject.index) {
    findings.error(34, {}, std::string(kIndexFileName), subject.index_error);
  }
  if (!subject.index_exists) {
    const bool lone = subject.files.size() == 1 && subject.files[0].name == kSingleFileName;
    if (subject.files.empty() && subject.unreadable_files.empty()) {
      findings.error(34, {}, {}, "the folder holds no .safetensors file");
    } else if (!lone) {
      findings.warning(34, {}, std::string(kIndexFileName),
                       fmt::format("no index for {} shards", subject.files.size()));
    }
  }
  if (subject.index) check_index_against_shards(subject, findings);
  check_duplicates(subject, findings);
  if (subject.source != nullptr) {
    for (const std::string& name : expected_names(subject)) {
      if (subject.find(name) == nullptr) {
        findings.error(34, name, {}, "the source has this tensor, the checkpoint does not");
      }
    }
  }
}

void check_complete(const Subject& subject, ThreadPool& pool, Findings& findings) {
  const auto is_error = [](const Finding& finding) { return finding.severity == Severity::kError; };
  if (std::ranges::any_of(findings.list(), is_error)) return;
  Result<Checkpoint> opened = Checkpoint::open(subject.dir);
  if (!opened) return;
  const Status loadable =
      check_loadable(std::make_shared<const Checkpoint>(*std::move(opened)), pool);
  if (loadable || loadable.error().code == Code::kUnsupported) return;
  findings.error(34, {}, {}, loadable.error().message);
}

}  // namespace gem8::verify

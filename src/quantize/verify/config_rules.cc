// V-32, V-36, V-37, V-41: the config and the other files of the folder.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "foundation/mapped_file.h"
#include "quantize/companions.h"
#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

namespace fs = std::filesystem;
const char* const kConfig = "config.json";

bool same_json(const Json& a, const Json& b) {
  if (a.is_object() && b.is_object()) {
    if (a.as_object().size() != b.as_object().size()) return false;
    return std::ranges::all_of(a.as_object(), [&](const JsonMember& member) {
      const Json* const other = b.find(member.key);
      return other != nullptr && same_json(member.value, *other);
    });
  }
  if (a.is_array() && b.is_array())
    return std::ranges::equal(a.as_array(), b.as_array(), same_json);
  if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
  return a == b;
}

/// The members two objects disagree on: "num_experts, sliding_window".
std::string differing_members(const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) return {};
  std::vector<std::string> names;
  for (const JsonMember& member : a.as_object()) {
    const Json* const other = b.find(member.key);
    if (other == nullptr || !same_json(member.value, *other)) names.push_back(member.key);
  }
  for (const JsonMember& member : b.as_object()) {
    if (a.find(member.key) == nullptr) names.push_back(member.key);
  }
  std::erase(names, "quantization_config");
  return fmt::format("{}", fmt::join(names, ", "));
}

void compare_with_source(const Subject& subject, Findings& findings) {
  const Json& source = subject.source->config().raw;
  for (const std::string_view key : {"architectures", "model_type", "text_config", "vision_config",
                                     "audio_config", "tie_word_embeddings"}) {
    const Json* const there = source.find(key);
    const Json* const here = subject.config->find(key);
    if (there == nullptr && here == nullptr) continue;
    if (there != nullptr && here != nullptr) {
      if (same_json(*there, *here)) continue;
      const std::string members = differing_members(*there, *here);
      if (there->is_object() && here->is_object() && members.empty()) continue;
      findings.warning(
          36, {}, kConfig,
          fmt::format("{} differs from the source{}", key, members.empty() ? "" : ": " + members));
      continue;
    }
    const Json& lone = there != nullptr ? *there : *here;
    if (lone.is_null()) continue;
    findings.warning(
        36, {}, kConfig,
        fmt::format("{} is in the {} only", key, there != nullptr ? "source" : "checkpoint"));
  }
}

/// Does the geometry of the config fit what is stored? One message per kind of contradiction.
void compare_with_tensors(const Subject& subject, Findings& findings) {
  const TextConfig& text = subject.model->text;
  const auto shape_of = [&](const std::string& name) -> const std::vector<std::int64_t>* {
    const Stored* const stored = subject.find(subject.text_prefix + name);
    return stored != nullptr && stored->info != nullptr ? &stored->info->shape : nullptr;
  };
  const auto* const embeddings = shape_of("embed_tokens.weight");
  if (embeddings != nullptr && *embeddings != std::vector<std::int64_t>{text.vocab, text.hidden}) {
    findings.error(36, subject.text_prefix + "embed_tokens.weight", kConfig,
                   fmt::format("shape {}, the config says [{}, {}]", shape_text(*embeddings),
                               text.vocab, text.hidden));
  }
  const auto* const router = shape_of("layers.0.router.proj.weight");
  if (router != nullptr && router->size() == 2 && (*router)[0] != text.n_experts) {
    findings.error(36, {}, kConfig,
                   fmt::format("num_experts is {}, the router of layer 0 chooses among {}",
                               text.n_experts, (*router)[0]));
  }
  const std::string beyond = fmt::format("{}layers.{}.", subject.text_prefix, text.n_layers);
  const auto extra = std::ranges::lower_bound(subject.tensors, beyond, {}, &Stored::name);
  if (extra != subject.tensors.end() && extra->name.starts_with(beyond)) {
    findings.error(36, extra->name, kConfig,
                   fmt::format("num_hidden_layers is {}, yet there is a layer {}", text.n_layers,
                               text.n_layers));
  }
  const bool multimodal = subject.text_prefix.find("language_model.") != std::string::npos;
  if (multimodal == subject.model->text_only_class) {
    findings.warning(36, {}, kConfig,
                     fmt::format("text_config is {}, tensors are named '{}...'",
                                 multimodal ? "missing" : "nested", subject.text_prefix));
  }
  for (const std::string& name : subject.model->architectures) {
    if (multimodal && name.find("CausalLM") != std::string::npos) {
      findings.warning(
          36, {}, kConfig,
          fmt::format("architecture {} reads text-only checkpoints, tensors are named '{}...'",
                      name, subject.text_prefix));
    }
  }
}

}  // namespace

void check_config(const Subject& subject, Findings& findings) {
  if (!subject.config) {
    findings.error(36, {}, kConfig, subject.config_error);
    return;
  }
  if (!subject.model) findings.error(36, {}, kConfig, subject.model_error);
  const Quantization& quantization = subject.quantization;
  if (quantization.format == Quantization::Format::kNone) {
    const bool fp8 = std::ranges::any_of(subject.tensors, [](const Stored& stored) {
      return stored.info != nullptr && stored.info->dtype == DType::kF8E4M3;
    });
    if (fp8) {
      findings.error(
          36, {}, kConfig,
          "no quantization_config, yet there are F8_E4M3 weights: engines would cast the codes");
    } else {
      findings.note(36, {}, kConfig, "no quantization_config: an unquantised checkpoint");
    }
  }
  if (quantization.format == Quantization::Format::kUnknown) {
    findings.error(36, {}, kConfig,
                   fmt::format("quant_method '{}': wanted fp8, compressed-tensors or modelopt",
                               quantization.method_name));
  }
  if (quantization.in_top_level && quantization.in_text_config) {
    findings.warning(36, {}, kConfig,
                     "quantization_config is at the top and in text_config: readers differ");
  }
  if (subject.model) compare_with_tensors(subject, findings);
  if (subject.source != nullptr) compare_with_source(subject, findings);

  if (!quantization.has_block_size || !subject.model) return;
  if (quantization.format == Quantization::Format::kFp8 &&
      quantization.scheme == Quantization::Scheme::kStatic) {
    findings.error(32, {}, kConfig,
                   "weight_block_size with static activations: engines refuse the pair");
    return;
  }
  std::string misfits;
  for (const LinearState& state : subject.linears) {
    const auto& block = quantization.block_size;
    const bool fits = block.size() == 2 && block[0] > 0 && block[1] > 0 &&
                      state.linear->out % block[0] == 0 && state.linear->in % block[1] == 0;
    if (fits) continue;
    misfits = fmt::format("{} [{}, {}]", state.module, state.linear->out, state.linear->in);
    break;
  }
  if (!misfits.empty()) {
    findings.error(32, {}, kConfig,
                   fmt::format("blocks [{}] do not divide {}",
                               fmt::join(quantization.block_size, ", "), misfits));
  } else {
    findings.warning(32, {}, kConfig, "block-wise scales: gem8 reads one scale per tensor only");
  }
}

void check_folder(const Subject& subject, Findings& findings) {
  std::error_code error;
  const auto here = [&](std::string_view name) { return fs::exists(subject.dir / name, error); };
  const auto missing = [&](std::string_view name, std::string_view use) {
    findings.warning(37, {}, std::string(name), fmt::format("missing: {}", use));
  };
  if (!here("tokenizer.json")) missing("tokenizer.json", "text cannot be encoded");
  bool has_template = here("chat_template.jinja") || here("chat_template.json");
  if (!has_template && here("tokenizer_config.json")) {
    const auto text = read_text_file(subject.dir / "tokenizer_config.json");
    has_template = text && text->find("\"chat_template\"") != std::string::npos;
  }
  if (!has_template) missing("chat_template.jinja", "chats cannot be rendered");
  if (!here("generation_config.json")) {
    missing("generation_config.json", "the makers' stop tokens and sampling settings are lost");
  }
  const bool images = subject.model && subject.model->vision;
  if (images && !here("processor_config.json") && !here("preprocessor_config.json")) {
    missing("processor_config.json", "images cannot be prepared as the makers meant");
  }
  for (const auto& [name, why] : broken_companions(subject.dir))
    findings.error(37, {}, name, fmt::format("cannot be read: {}", why.message));
  if (subject.source == nullptr) return;
  const fs::path& source = subject.source->dir();
  for (const std::string_view name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        "chat_template.json", "processor_config.json", "preprocessor_config.json",
        "generation_config.json"}) {
    if (!fs::exists(source / name, error)) continue;
    if (!here(name)) {
      // The four above have been named already.
      const bool said =
          name == "tokenizer.json" || name == "generation_config.json" ||
          (name == "chat_template.jinja" && !has_template) ||
          (name == "processor_config.json" && images && !here("preprocessor_config.json"));
      if (!said) missing(name, "the source has it");
      continue;
    }
    const auto ours = read_text_file(subject.dir / name);
    const auto theirs = read_text_file(source / name);
    if (ours && theirs && *ours != *theirs) {
      findings.warning(37, {}, std::string(name), "differs from the source's");
    }
  }
}

void check_loader_age(const Subject& subject, const RuleOptions& options, Findings& findings) {
  // vLLM learned to read experts one by one on 2026-04-08 (#39045); dates compare as text.
  constexpr std::string_view kPerExpert = "2026-04-08";
  if (options.vllm_date.empty() || options.vllm_date >= kPerExpert) return;
  const auto expert = std::ranges::find_if(subject.linears, [](const LinearState& state) {
    return state.group->expert >= 0 && state.weight != nullptr && !state.in_fused_3d;
  });
  if (expert == subject.linears.end()) return;
  findings.error(
      41, expert->weight->name, subject.file_of(*expert->weight),
      fmt::format("experts stored one by one: vLLM reads them since {}, the target is of {}",
                  kPerExpert, options.vllm_date));
}

}  // namespace gem8::verify

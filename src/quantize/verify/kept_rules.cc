// V-02 to V-04, V-20, V-29, V-38: what must stay as it was.
#include <fmt/format.h>

#include <algorithm>

#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

struct Kept {
  int rule = 0;
  std::string_view what;
};

/// The rule that guards a tensor that is never quantised; nullopt for all others.
std::optional<Kept> kept_kind(const Subject& subject, std::string_view name) {
  if (name.find("vision_tower.") != std::string_view::npos) return Kept{4, "the vision tower"};
  if (name.find("embed_vision.") != std::string_view::npos) return Kept{3, "the vision connector"};
  std::string_view rest;
  if (subject.layer_of(name, &rest)) {
    if (rest.starts_with("router.")) return Kept{2, "a router"};
    if (rest.find("norm") != std::string_view::npos) return Kept{29, "a norm"};
    return std::nullopt;
  }
  if (name.starts_with(subject.text_prefix)) {
    const std::string_view tail = name.substr(subject.text_prefix.size());
    if (tail.starts_with("norm.") || tail.find("_norm.") != std::string_view::npos) {
      return Kept{29, "a norm"};
    }
  }
  return std::nullopt;
}

bool is_scale(std::string_view name) {
  return name.ends_with(".weight_scale") || name.ends_with(".input_scale") ||
         name.ends_with("_scale_inv") || name.ends_with(".output_scale");
}

bool is_clip_range(std::string_view name) {
  return name.ends_with(".input_max") || name.ends_with(".input_min") ||
         name.ends_with(".output_max") || name.ends_with(".output_min");
}

void check_kept_tensor(const Subject& subject, const Stored& stored, const Kept& kept,
                       Findings& findings) {
  const std::string file = subject.file_of(stored);
  if (is_scale(stored.name)) {
    findings.error(kept.rule, stored.name, file,
                   fmt::format("a quantisation scale on {}", kept.what));
    return;
  }
  if (stored.info == nullptr) return;
  const DType dtype = stored.info->dtype;
  if (dtype_bytes(dtype) == 1) {
    findings.error(kept.rule, stored.name, file,
                   fmt::format("{} stored in {}: engines read its codes as values", kept.what,
                               dtype_name(dtype)));
    return;
  }
  const bool floating = dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32;
  if (!floating) {
    findings.error(kept.rule, stored.name, file,
                   fmt::format("{} stored in {}, wanted BF16", kept.what, dtype_name(dtype)));
  }
  if (kept.rule == 29 && stored.info->shape.size() != 1) {
    findings.error(
        29, stored.name, file,
        fmt::format("a norm of shape {}, wanted a vector", shape_text(stored.info->shape)));
  }
}

/// Bytes of the source under another rule each; a tensor that the source lacks is V-34's business.
void compare_kept(const Subject& subject, Findings& findings) {
  const Checkpoint& source = *subject.source;
  for (const Stored& stored : subject.tensors) {
    if (stored.info == nullptr || is_scale(stored.name)) continue;
    const auto kept = kept_kind(subject, stored.name);
    const bool embeddings = stored.name.ends_with("embed_tokens.weight") ||
                            stored.name.ends_with("embed_tokens_per_layer.weight");
    if (!kept && !embeddings) continue;
    const TensorInfo* original = source.find(stored.name);
    if (original == nullptr && stored.name.starts_with(subject.text_prefix)) {
      original = source.find_text(stored.name.substr(subject.text_prefix.size()));
    }
    if (original == nullptr || original->dtype != stored.info->dtype ||
        original->shape != stored.info->shape) {
      continue;
    }
    const bool same = std::ranges::equal(original->bytes, stored.info->bytes);
    source.release(original->bytes);
    subject.release(stored);
    if (same) continue;
    findings.error(
        kept ? kept->rule : 26, stored.name, subject.file_of(stored),
        fmt::format("{} differs from the source", kept ? kept->what : "the embedding table"));
  }
}

void check_head(const Subject& subject, Findings& findings) {
  const Stored* head = nullptr;
  const bool tied = !subject.model || subject.model->text.tie_word_embeddings;
  for (const std::string_view name : kHeadNames) {
    if (head == nullptr) head = subject.find(name);
    if (const Stored* const scale = subject.find(std::string(name) + "_scale"); scale != nullptr) {
      findings.error(20, scale->name, subject.file_of(*scale), "a quantisation scale on the head");
    }
  }
  if (head == nullptr) {
    if (!tied)
      findings.error(20, "lm_head.weight", {},
                     "missing, and the config does not tie it to the embeddings");
    return;
  }
  const std::string file = subject.file_of(*head);
  if (head->info == nullptr) return;
  if (dtype_bytes(head->info->dtype) == 1) {
    findings.error(
        20, head->name, file,
        fmt::format("the head stored in {}, wanted BF16", dtype_name(head->info->dtype)));
    return;
  }
  if (!tied) return;
  const Stored* const embeddings = subject.find(subject.text_prefix + "embed_tokens.weight");
  if (embeddings == nullptr || embeddings->info == nullptr) return;
  const bool same = embeddings->info->dtype == head->info->dtype &&
                    std::ranges::equal(embeddings->info->bytes, head->info->bytes);
  if (same) {
    findings.warning(20, head->name, file, "a copy of the embeddings, to which the head is tied");
  } else {
    findings.error(20, head->name, file,
                   "differs from the embeddings it is tied to: engines would use it instead");
  }
}

}  // namespace

void check_kept(const Subject& subject, Findings& findings) {
  const bool clipped =
      subject.model && subject.model->vision && subject.model->vision->use_clipped_linears;
  for (const Stored& stored : subject.tensors) {
    if (is_clip_range(stored.name)) {
      const bool vision = stored.name.find("vision_tower.") != std::string::npos;
      if (vision && !clipped) {
        findings.error(
            38, stored.name, subject.file_of(stored),
            "a clip range, but use_clipped_linears is off: engines have no parameter for it");
      }
      continue;
    }
    if (const auto kept = kept_kind(subject, stored.name)) {
      check_kept_tensor(subject, stored, *kept, findings);
    }
  }
  check_head(subject, findings);
  if (subject.source != nullptr) compare_kept(subject, findings);
}

}  // namespace gem8::verify

// Renderings of a CheckpointSummary: JSON for programs, a table for people.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "formats/checkpoint_summary.h"

namespace gem8 {
namespace {

/// "27.13 GB": decimal units, as model cards count.
std::string bytes_text(std::uint64_t bytes) {
  constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < std::size(kUnits)) {
    value /= 1000.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

Json totals_json(const TensorTotals& totals) {
  return Json::object({{"tensors", Json(totals.n_tensors)},
                       {"elements", Json(totals.n_elements)},
                       {"bytes", Json(totals.bytes)}});
}

Json shape_json(const ModelConfig& config) {
  const TextConfig& text = config.text;
  Json shape = Json::object({{"hidden", Json(text.hidden)},
                             {"layers", Json(text.n_layers)},
                             {"heads", Json(text.n_heads)},
                             {"kv_heads", Json(text.n_kv_heads)},
                             {"head_dim", Json(text.head_dim)},
                             {"global_kv_heads", Json(text.layers.back().n_kv_heads)},
                             {"global_head_dim", Json(text.global_head_dim)},
                             {"ffn", Json(text.ffn)},
                             {"vocab", Json(text.vocab)},
                             {"sliding_window", Json(text.sliding_window)},
                             {"context", Json(text.max_position_embeddings)},
                             {"experts", Json(text.n_experts)},
                             {"experts_per_token", Json(text.top_k_experts)},
                             {"expert_ffn", Json(text.expert_ffn)},
                             {"per_layer_hidden", Json(text.per_layer_hidden)},
                             {"kv_shared_layers", Json(text.n_kv_shared_layers)},
                             {"k_eq_v", Json(text.attention_k_eq_v)},
                             {"tied_head", Json(config.tie_word_embeddings)}});
  Json::Array full;
  for (int i = 0; i < text.n_layers; ++i) {
    if (text.layers[static_cast<std::size_t>(i)].full) full.emplace_back(i);
  }
  shape.set("full_attention_layers", Json(std::move(full)));
  Json vision;
  if (config.vision) {
    vision = Json::object({{"hidden", Json(config.vision->hidden)},
                           {"layers", Json(config.vision->n_layers)},
                           {"heads", Json(config.vision->n_heads)},
                           {"head_dim", Json(config.vision->head_dim)},
                           {"ffn", Json(config.vision->ffn)}});
  }
  shape.set("vision", std::move(vision));
  return shape;
}

std::string shape_lines(const ModelConfig& config) {
  const TextConfig& text = config.text;
  std::vector<int> full;
  for (int i = 0; i < text.n_layers; ++i) {
    if (text.layers[static_cast<std::size_t>(i)].full) full.push_back(i);
  }
  std::string out;
  const auto line = [&](std::string_view name, const std::string& value) {
    out += fmt::format("{:<12} {}\n", name, value);
  };
  line("layers", fmt::format("{}, full attention in {}", text.n_layers, fmt::join(full, ", ")));
  line("attention",
       fmt::format("{} heads; sliding {} kv heads x {}, window {}; full {} kv heads x {}{}",
                   text.n_heads, text.n_kv_heads, text.head_dim, text.sliding_window,
                   text.layers.back().n_kv_heads, text.global_head_dim,
                   text.attention_k_eq_v ? ", V from K" : ""));
  line("widths", fmt::format("hidden {}, mlp {}{}, vocabulary {}{}", text.hidden, text.ffn,
                             text.use_double_wide_mlp ? " (doubled where K/V are shared)" : "",
                             text.vocab, config.tie_word_embeddings ? " (tied head)" : ""));
  if (text.has_experts()) {
    line("experts", fmt::format("{}, {} per token, width {}", text.n_experts, text.top_k_experts,
                                text.expert_ffn));
  }
  if (text.has_per_layer_embeddings())
    line("per layer", fmt::format("inputs of width {}", text.per_layer_hidden));
  if (text.n_kv_shared_layers > 0)
    line("shared K/V", fmt::format("the last {} layers", text.n_kv_shared_layers));
  line("context", fmt::format("{} tokens", text.max_position_embeddings));
  if (config.vision) {
    line("vision",
         fmt::format("{} layers, hidden {}, {} heads x {}, mlp {}", config.vision->n_layers,
                     config.vision->hidden, config.vision->n_heads, config.vision->head_dim,
                     config.vision->ffn));
  }
  return out;
}

std::string experts_line(const std::vector<ExpertId>& experts) {
  if (experts.empty()) return "experts never calibrated: none\n";
  constexpr std::size_t kShown = 8;
  std::string out = fmt::format("experts never calibrated: {} (", experts.size());
  for (std::size_t i = 0; i < std::min(experts.size(), kShown); ++i) {
    out += fmt::format("{}layer {} expert {}", i == 0 ? "" : ", ", experts[i].layer,
                       experts[i].expert);
  }
  return out + (experts.size() > kShown ? ", ...)\n" : ")\n");
}

}  // namespace

Json summary_json(const Checkpoint& checkpoint, const CheckpointSummary& summary,
                  bool with_tensors) {
  const ModelConfig& config = checkpoint.config();
  Json::Array architectures;
  for (const std::string& name : config.architectures) architectures.emplace_back(name);
  Json::Array shards;
  for (const std::string& name : checkpoint.shard_names()) shards.emplace_back(name);
  Json document = Json::object({{"checkpoint", Json(checkpoint.dir().string())},
                                {"model_type", Json(config.model_type)},
                                {"architectures", Json(std::move(architectures))},
                                {"format", Json(format_name(checkpoint))},
                                {"parameters", Json(summary.n_parameters)},
                                {"tensors", Json(summary.all.n_tensors)},
                                {"bytes", Json(summary.all.bytes)},
                                {"shards", Json(std::move(shards))},
                                {"shape", shape_json(config)}});
  Json quantization;
  if (config.quantization) {
    quantization = Json::object(
        {{"method", Json(config.quantization->method_name)},
         {"activations", Json(activation_scheme_name(config.quantization->activations))},
         {"ignored_modules", Json(config.quantization->ignored.size())},
         {"loadable", Json(config.quantization->check_loadable().has_value())}});
  }
  document.set("quantization", std::move(quantization));
  Json dtypes(Json::Object{});
  for (const auto& [dtype, totals] : summary.dtypes)
    dtypes.set(dtype_name(dtype), totals_json(totals));
  document.set("dtypes", std::move(dtypes));
  Json parts(Json::Object{});
  for (const auto& [part, totals] : summary.parts)
    parts.set(model_part_name(part), totals_json(totals));
  document.set("parts", std::move(parts));
  Json::Array scales;
  for (const ScaleSummary& scale : summary.scales) {
    const bool any = scale.n_values > scale.n_bad;
    scales.push_back(Json::object({{"scale", Json(scale.kind)},
                                   {"part", Json(model_part_name(scale.part))},
                                   {"count", Json(scale.n_values)},
                                   {"bad", Json(scale.n_bad)},
                                   {"min", any ? Json(scale.min) : Json()},
                                   {"median", any ? Json(scale.median) : Json()},
                                   {"max", any ? Json(scale.max) : Json()}}));
  }
  document.set("scales", Json(std::move(scales)));
  Json experts;
  if (summary.uncalibrated_experts) {
    Json::Array list;
    for (const ExpertId& id : *summary.uncalibrated_experts) {
      list.push_back(Json::object({{"layer", Json(id.layer)}, {"expert", Json(id.expert)}}));
    }
    experts = Json(std::move(list));
  }
  document.set("experts_never_calibrated", std::move(experts));
  if (with_tensors) {
    Json::Array list;
    for (const CheckpointTensor& tensor : checkpoint.tensors()) {
      Json::Array shape;
      for (const std::int64_t dimension : tensor.info->shape) shape.emplace_back(dimension);
      list.push_back(
          Json::object({{"name", Json(tensor.info->name)},
                        {"dtype", Json(dtype_name(tensor.info->dtype))},
                        {"shape", Json(std::move(shape))},
                        {"bytes", Json(tensor.info->bytes.size())},
                        {"part", Json(model_part_name(part_of(checkpoint, tensor.info->name)))},
                        {"file", Json(checkpoint.shard_names()[tensor.shard])}}));
    }
    document.set("tensor_list", Json(std::move(list)));
  }
  return document;
}

std::string summary_text(const Checkpoint& checkpoint, const CheckpointSummary& summary,
                         bool with_tensors) {
  const ModelConfig& config = checkpoint.config();
  std::string out = fmt::format("{}\n", checkpoint.dir().string());
  out += fmt::format(
      "{:<12} {} ({})\n", "model", config.model_type,
      config.architectures.empty() ? "no architecture named" : config.architectures.front());
  out += fmt::format("{:<12} {}\n", "format", format_name(checkpoint));
  if (config.quantization) {
    if (const Status loadable = config.quantization->check_loadable(); !loadable) {
      out += fmt::format("{:<12} {}\n", "", loadable.error().text());
    }
  }
  out +=
      fmt::format("{:<12} {} parameters, {} in {} tensors and {} file{}\n", "size",
                  summary.n_parameters, bytes_text(summary.all.bytes), summary.all.n_tensors,
                  checkpoint.shard_names().size(), checkpoint.shard_names().size() == 1 ? "" : "s");
  out += shape_lines(config);
  const auto table = [&](std::string_view name, std::string_view key, const TensorTotals& totals) {
    const double share = summary.all.bytes == 0 ? 0.0
                                                : 100.0 * static_cast<double>(totals.bytes) /
                                                      static_cast<double>(summary.all.bytes);
    out += fmt::format("{:<12} {:<16} {:>8} {:>12} {:>6.1f}%\n", name, key, totals.n_tensors,
                       bytes_text(totals.bytes), share);
  };
  out += fmt::format("\n{:<12} {:<16} {:>8} {:>12} {:>7}\n", "", "", "tensors", "bytes", "share");
  for (const auto& [part, totals] : summary.parts) table("part", model_part_name(part), totals);
  for (const auto& [dtype, totals] : summary.dtypes) table("type", dtype_name(dtype), totals);
  if (!summary.scales.empty()) {
    out += fmt::format("\n{:<12} {:<16} {:>8} {:>12} {:>12} {:>12}\n", "scale", "of", "count",
                       "min", "median", "max");
  }
  for (const ScaleSummary& scale : summary.scales) {
    out += fmt::format(
        "{:<12} {:<16} {:>8} {:>12.6g} {:>12.6g} {:>12.6g}{}\n", scale.kind,
        model_part_name(scale.part), scale.n_values, scale.min, scale.median, scale.max,
        scale.n_bad == 0 ? "" : fmt::format("  {} not positive and finite", scale.n_bad));
  }
  if (summary.uncalibrated_experts)
    out += fmt::format("\n{}", experts_line(*summary.uncalibrated_experts));
  if (with_tensors) {
    out += "\n";
    for (const CheckpointTensor& tensor : checkpoint.tensors()) {
      out += fmt::format("{:<8} {:<18} {:>12}  {}\n", dtype_name(tensor.info->dtype),
                         shape_text(tensor.info->shape), bytes_text(tensor.info->bytes.size()),
                         tensor.info->name);
    }
  }
  return out;
}

}  // namespace gem8

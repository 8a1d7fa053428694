#include "quantize/shard_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>

#include "foundation/mapped_file.h"
#include "quantize/encode.h"

namespace gem8 {

namespace {

constexpr std::size_t kChunk =
    std::size_t{1}
    << 18;  // elements of one task: large enough to hide a call, small enough to share

/// One group of a block being encoded.
struct Job {
  const ConversionItem* item = nullptr;
  std::size_t offset = 0;  ///< of its first code in the block
  float amax = 0.0f;
  float scale = 0.0f;
};

struct Chunk {
  std::size_t job = 0;
  const StoredWeight* weight = nullptr;
  std::size_t first = 0, count = 0;  ///< elements of the weight
  std::size_t offset = 0;            ///< in the block
  float amax = 0.0f;
};

struct Block {
  std::vector<Job> jobs;
  std::vector<std::uint8_t> codes;
};

std::size_t n_elements(const StoredWeight& weight) {
  return weight.bytes.size() / dtype_bytes(weight.dtype);
}

/// Largest magnitudes, then codes, of all groups of a block.
Status encode_block(Block& block, ThreadPool& pool) {
  std::vector<Chunk> chunks;
  std::size_t offset = 0;
  for (std::size_t j = 0; j < block.jobs.size(); ++j) {
    block.jobs[j].offset = offset;
    for (const StoredWeight& weight : block.jobs[j].item->weights) {
      const std::size_t n = n_elements(weight);
      for (std::size_t first = 0; first < n; first += kChunk) {
        chunks.push_back({.job = j,
                          .weight = &weight,
                          .first = first,
                          .count = std::min(kChunk, n - first),
                          .offset = offset + first});
      }
      offset += n;
    }
  }
  block.codes.resize(offset);
  const auto bytes_of = [](const Chunk& chunk) {
    const std::size_t size = dtype_bytes(chunk.weight->dtype);
    return chunk.weight->bytes.subspan(chunk.first * size, chunk.count * size);
  };
  pool.parallel_for(chunks.size(), [&](std::size_t i, std::size_t) {
    chunks[i].amax = weights_amax(chunks[i].weight->dtype, bytes_of(chunks[i]));
  });
  for (const Chunk& chunk : chunks) {
    Job& job = block.jobs[chunk.job];
    if (!std::isfinite(chunk.amax)) {
      return fail(Code::kCorrupt, "tensor '{}': holds an infinite or NaN weight",
                  chunk.weight->tensor);
    }
    job.amax = std::max(job.amax, chunk.amax);
  }
  for (Job& job : block.jobs) job.scale = scale_of(job.amax);
  pool.parallel_for(chunks.size(), [&](std::size_t i, std::size_t) {
    encode_weights(chunks[i].weight->dtype, bytes_of(chunks[i]), block.jobs[chunks[i].job].scale,
                   std::span(block.codes).subspan(chunks[i].offset, chunks[i].count));
  });
  return {};
}

void release_weights(const Checkpoint& source, const Block& block) {
  for (const Job& job : block.jobs) {
    for (const StoredWeight& weight : job.item->weights) source.release(weight.bytes);
  }
}

Status append_codes(SafetensorsWriter& writer, const Block& block) {
  for (const Job& job : block.jobs) {
    std::size_t offset = job.offset;
    for (std::size_t i = 0; i < job.item->weights.size(); ++i) {
      const std::size_t n = n_elements(job.item->weights[i]);
      GEM8_RETURN_IF_ERROR(writer.append(job.item->modules[i] + ".weight",
                                         std::as_bytes(std::span(block.codes)).subspan(offset, n)));
      offset += n;
    }
  }
  return {};
}

bool is_static(const ConversionPlan& plan) {
  return plan.scheme == Scheme::kStatic;
}

float input_scale_of(const ConversionPlan& plan, const ConversionItem& item,
                     const std::vector<InputScales>& inputs) {
  if (!is_static(plan)) return 0.0f;
  return inputs[static_cast<std::size_t>(item.layer)][static_cast<std::size_t>(item.group->input)];
}

void note_written(const ConversionPlan& plan, const ConversionItem& item, float weight_scale,
                  const std::vector<InputScales>& inputs, std::vector<WrittenLinear>& written) {
  for (const std::string& module : item.modules) {
    written.push_back({.module = module,
                       .layer = item.layer,
                       .expert = item.group->expert,
                       .input = item.group->input,
                       .weight_scale = weight_scale,
                       .input_scale = input_scale_of(plan, item, inputs)});
  }
}

/// Kept tensors by element size, codes, scales: all aligned to their element types as long as the
/// codes come to a multiple of four bytes, which real widths do; else the scales go first.
struct Order {
  std::vector<const ConversionItem*> kept;
  std::vector<const ConversionItem*> groups;
  bool scales_first = false;
};

Order order_of(const ConversionPlan& plan, const ConversionShard& shard) {
  Order order;
  std::uint64_t before_scales = 0;
  for (const std::size_t index : shard.items) {
    const ConversionItem& item = plan.items[index];
    (item.group == nullptr ? order.kept : order.groups).push_back(&item);
    if (item.group == nullptr) {
      before_scales += item.bytes;
    } else {
      for (const StoredWeight& weight : item.weights) before_scales += n_elements(weight);
    }
  }
  std::ranges::stable_sort(order.kept, [](const ConversionItem* a, const ConversionItem* b) {
    return dtype_bytes(a->kept->dtype) > dtype_bytes(b->kept->dtype);
  });
  order.scales_first = before_scales % 4 != 0;
  return order;
}

std::vector<TensorSpec> specs_of(const ConversionPlan& plan, const Order& order) {
  std::vector<TensorSpec> kept, codes, scales;
  for (const ConversionItem* const item : order.kept) {
    kept.push_back({item->kept->name, item->kept->dtype, item->kept->shape});
  }
  for (const ConversionItem* const item : order.groups) {
    for (std::size_t i = 0; i < item->modules.size(); ++i) {
      const Linear& linear = item->group->members[i];
      codes.push_back({item->modules[i] + ".weight", DType::kF8E4M3, {linear.out, linear.in}});
      scales.push_back({item->modules[i] + ".weight_scale", DType::kF32, {}});
      if (is_static(plan)) scales.push_back({item->modules[i] + ".input_scale", DType::kF32, {}});
    }
  }
  std::vector<TensorSpec> specs;
  const auto add = [&specs](std::vector<TensorSpec>& part) {
    std::ranges::move(part, std::back_inserter(specs));
  };
  if (order.scales_first) add(scales);
  add(kept);
  add(codes);
  if (!order.scales_first) add(scales);
  return specs;
}

Status append_scales(SafetensorsWriter& writer, const ConversionPlan& plan,
                     const std::vector<WrittenLinear>& written) {
  for (const WrittenLinear& linear : written) {
    const auto append = [&](std::string_view what, float value) {
      return writer.append(linear.module + std::string(what), std::as_bytes(std::span(&value, 1)));
    };
    GEM8_RETURN_IF_ERROR(append(".weight_scale", linear.weight_scale));
    if (is_static(plan)) GEM8_RETURN_IF_ERROR(append(".input_scale", linear.input_scale));
  }
  return {};
}

/// The groups in blocks of at most kBlockBytes of codes, at least one group each.
std::vector<Block> blocks_of(const Order& order) {
  std::vector<Block> blocks;
  std::size_t filled = 0;
  for (const ConversionItem* const item : order.groups) {
    std::size_t n = 0;
    for (const StoredWeight& weight : item->weights) n += n_elements(weight);
    if (blocks.empty() || filled + n > kBlockBytes) {
      blocks.emplace_back();
      filled = 0;
    }
    blocks.back().jobs.push_back({.item = item});
    filled += n;
  }
  return blocks;
}

}  // namespace

Result<std::vector<WrittenLinear>> write_shard(const std::filesystem::path& dir,
                                               const Checkpoint& source, const ConversionPlan& plan,
                                               const ConversionShard& shard,
                                               const std::vector<InputScales>& inputs,
                                               const SafetensorsWriter::Metadata& metadata,
                                               ThreadPool& pool) {
  const Order order = order_of(plan, shard);
  GEM8_TRY(SafetensorsWriter writer,
           SafetensorsWriter::create(dir / shard.file, specs_of(plan, order), metadata));
  std::vector<WrittenLinear> written;
  std::vector<Block> blocks = blocks_of(order);
  if (order.scales_first) {
    for (Block& block : blocks) {
      GEM8_RETURN_IF_ERROR(encode_block(block, pool));
      block.codes = {};
      release_weights(source, block);
      for (const Job& job : block.jobs) note_written(plan, *job.item, job.scale, inputs, written);
    }
    GEM8_RETURN_IF_ERROR(append_scales(writer, plan, written));
    written.clear();
  }
  for (const ConversionItem* const item : order.kept) {
    GEM8_RETURN_IF_ERROR(writer.append(item->kept->name, item->kept->bytes));
    source.release(item->kept->bytes);
  }
  std::future<Status> writing;  // of the block before
  Status status;
  for (std::size_t i = 0; i < blocks.size() && status; ++i) {
    status = encode_block(blocks[i], pool);
    release_weights(source, blocks[i]);
    if (writing.valid()) {
      if (Status previous = writing.get(); status && !previous) status = std::move(previous);
      blocks[i - 1].codes = {};
    }
    if (!status) break;
    for (const Job& job : blocks[i].jobs) note_written(plan, *job.item, job.scale, inputs, written);
    writing = std::async(std::launch::async,
                         [&writer, &block = blocks[i]] { return append_codes(writer, block); });
  }
  if (writing.valid()) {
    if (Status last = writing.get(); status && !last) status = std::move(last);
  }
  GEM8_RETURN_IF_ERROR(std::move(status));
  if (!order.scales_first) GEM8_RETURN_IF_ERROR(append_scales(writer, plan, written));
  GEM8_RETURN_IF_ERROR(writer.finish());
  return written;
}

Result<std::optional<std::vector<WrittenLinear>>> read_written_shard(
    const std::filesystem::path& dir, const ConversionPlan& plan, const ConversionShard& shard) {
  std::error_code ignored;
  if (!std::filesystem::exists(dir / shard.file, ignored)) return std::nullopt;
  const auto opened = SafetensorsFile::open(dir / shard.file);
  if (!opened) return fail(Code::kCorrupt, "{} (begin anew with --restart)", opened.error().text());
  const SafetensorsFile& file = *opened;
  const Order order = order_of(plan, shard);
  for (const TensorSpec& spec : specs_of(plan, order)) {
    const TensorInfo* const info = file.find(spec.name);
    if (info == nullptr || info->dtype != spec.dtype || info->shape != spec.shape) {
      return fail(Code::kCorrupt,
                  "{}: tensor '{}' is not what this run would write (begin anew with --restart)",
                  (dir / shard.file).string(), spec.name);
    }
  }
  const auto scalar = [&file](const std::string& name) {
    float value = 0.0f;
    if (const TensorInfo* const info = file.find(name); info != nullptr) {
      std::memcpy(&value, info->bytes.data(), sizeof value);
    }
    return value;
  };
  std::vector<WrittenLinear> written;
  for (const ConversionItem* const item : order.groups) {
    for (const std::string& module : item->modules) {
      written.push_back({.module = module,
                         .layer = item->layer,
                         .expert = item->group->expert,
                         .input = item->group->input,
                         .weight_scale = scalar(module + ".weight_scale"),
                         .input_scale = scalar(module + ".input_scale")});
    }
  }
  return written;
}

}  // namespace gem8

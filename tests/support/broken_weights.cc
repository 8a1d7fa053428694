// The edits of BrokenCheckpoint that change tensors: which there are, and what they hold.
#include <algorithm>
#include <cmath>
#include <limits>

#include "foundation/fp8.h"
#include "tests/support/broken_checkpoint.h"
#include "tests/support/broken_checkpoint_parts.h"

namespace gem8::testing {

namespace {

using Tensor = BrokenCheckpoint::Tensor;
using Floats = std::vector<float>;

/// Numbers, and the ones JSON has no words for.
float float_at(const Json& edit, std::string_view key) {
  const Json* const value = edit.find(key);
  if (value == nullptr) refuse(fmt::format("edit lacks '{}'", key));
  if (value->is_number()) return static_cast<float>(value->as_double());
  const std::string& word = value->as_string();
  if (word == "nan") return std::numeric_limits<float>::quiet_NaN();
  if (word == "inf") return std::numeric_limits<float>::infinity();
  if (word == "-inf") return -std::numeric_limits<float>::infinity();
  if (word == "lowest") return std::numeric_limits<float>::lowest();
  refuse("no number: " + word);
}

Floats to_floats(const Tensor& tensor) {
  const std::size_t size = size_of(tensor.dtype);
  Floats values(tensor.bytes.size() / size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const char* const from = tensor.bytes.data() + i * size;
    if (tensor.dtype == "F8_E4M3") {
      values[i] = e4m3_decode(static_cast<std::uint8_t>(*from));
    } else if (tensor.dtype == "BF16") {
      std::uint16_t bits = 0;
      std::memcpy(&bits, from, 2);
      values[i] = static_cast<float>(BF16::from_bits(bits));
    } else if (tensor.dtype == "F32") {
      std::memcpy(&values[i], from, 4);
    } else {
      refuse("no values of " + tensor.dtype);
    }
  }
  return values;
}

std::string to_bytes(const std::string& dtype, const Floats& values) {
  std::string bytes(values.size() * size_of(dtype), '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == "F8_E4M3") {
      bytes[i] = static_cast<char>(e4m3_encode(values[i]));
    } else if (dtype == "BF16") {
      const std::uint16_t bits = BF16(values[i]).bits;
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    } else if (dtype == "F32") {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      refuse("cannot write " + dtype);
    }
  }
  return bytes;
}

Floats repeated(float value, std::size_t n) {
  return Floats(n, value);
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  std::string result = text;
  for (std::size_t at = result.find(from); at != std::string::npos;
       at = result.find(from, at + to.size())) {
    result.replace(at, from.size(), to);
  }
  return result;
}

std::string without_suffix(const std::string& name, std::string_view suffix) {
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

}  // namespace

bool BrokenCheckpoint::apply_to_tensors(const std::string& op, const Json& edit) {
  if (op == "delete") {
    erase(string_at(edit, "tensor"));
  } else if (op == "rename") {
    for (const std::string& name : match(string_at(edit, "tensor"))) {
      Shard& shard = shard_of(name);
      Tensor tensor = std::move(shard.at(name));
      shard.erase(name);
      shard[replaced(name, string_at(edit, "old"), string_at(edit, "new"))] = std::move(tensor);
    }
  } else if (op == "copy") {
    const std::string name = string_at(edit, "tensor");
    put(string_at(edit, "to"), at(name), name);
  } else if (op == "retag") {
    for (const std::string& name : match(string_at(edit, "tensor")))
      at(name).dtype = string_at(edit, "dtype");
  } else if (op == "swap") {
    std::swap(at(string_at(edit, "a")), at(string_at(edit, "b")));
  } else if (op == "shape") {
    const Json& shape = *edit.find("shape");
    for (const std::string& name : match(string_at(edit, "tensor"))) {
      Tensor& tensor = at(name);
      if (shape.is_array()) {
        tensor.shape.clear();
        for (const Json& side : shape.as_array()) tensor.shape.push_back(side.as_int());
        continue;
      }
      const auto rows = static_cast<std::size_t>(tensor.shape.at(0));
      const auto cols = static_cast<std::size_t>(tensor.shape.at(1));
      const std::size_t size = size_of(tensor.dtype);
      std::string moved(tensor.bytes.size(), '\0');
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          std::memcpy(moved.data() + (c * rows + r) * size,
                      tensor.bytes.data() + (r * cols + c) * size, size);
        }
      }
      tensor.bytes = std::move(moved);
      std::swap(tensor.shape.at(0), tensor.shape.at(1));
    }
  } else if (op == "rows") {
    Tensor& tensor = at(string_at(edit, "tensor"));
    const std::size_t width = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape.at(0));
    tensor.shape.at(0) -= int_at(edit, "drop");
    tensor.bytes.resize(static_cast<std::size_t>(tensor.shape.at(0)) * width);
  } else if (op == "byte") {
    at(string_at(edit, "tensor")).bytes.at(static_cast<std::size_t>(int_at(edit, "at"))) =
        static_cast<char>(int_at(edit, "value"));
  } else if (op == "zero_codes") {
    for (const std::string& name : match(string_at(edit, "tensor")))
      std::ranges::fill(at(name).bytes, '\0');
  } else if (op == "add") {
    Tensor tensor{.dtype = string_at(edit, "dtype")};
    std::size_t count = 1;
    for (const Json& side : edit.find("shape")->as_array()) {
      tensor.shape.push_back(side.as_int());
      count *= static_cast<std::size_t>(side.as_int());
    }
    tensor.bytes = to_bytes(tensor.dtype, repeated(float_at(edit, "value"), count));
    put(string_at(edit, "tensor"), std::move(tensor));
  } else if (op == "fuse_experts") {
    fuse_experts(int_at(edit, "layer"), string_at(edit, "scales"));
  } else {
    return false;
  }
  return true;
}

bool BrokenCheckpoint::apply_to_values(const std::string& op, const Json& edit) {
  const auto scale_of = [this](const std::string& weight) {
    return to_floats(at(weight + "_scale")).at(0);
  };
  const auto each = [&](const std::function<void(const std::string&, Tensor&)>& change) {
    for (const std::string& name : match(string_at(edit, "tensor"))) change(name, at(name));
    return true;
  };
  if (op == "cast") {
    return each([&](const std::string&, Tensor& t) {
      t.bytes = to_bytes(string_at(edit, "dtype"), to_floats(t));
      t.dtype = string_at(edit, "dtype");
    });
  }
  if (op == "fill") {
    return each([&](const std::string&, Tensor& t) {
      t.bytes =
          to_bytes(t.dtype, repeated(float_at(edit, "value"), t.bytes.size() / size_of(t.dtype)));
    });
  }
  if (op == "times" || op == "reciprocal") {
    return each([&](const std::string&, Tensor& t) {
      Floats values = to_floats(t);
      for (float& value : values)
        value = op == "times" ? value * float_at(edit, "factor") : 1.0f / value;
      t.bytes = to_bytes(t.dtype, values);
    });
  }
  if (op == "quantise") {
    return each([&](const std::string& name, Tensor& t) {
      Floats values = to_floats(t);
      float amax = 0.0f;
      for (const float value : values) amax = std::max(amax, std::abs(value));
      const float scale = amax / 448.0f;
      for (float& value : values) value /= scale;
      t = {"F8_E4M3", t.shape, to_bytes("F8_E4M3", values)};
      if (bool_at(edit, "weight_scale", true)) {
        put(name + "_scale", {"F32", {}, to_bytes("F32", {scale})}, name);
      }
      if (bool_at(edit, "input_scale", false)) {
        put(without_suffix(name, "weight") + "input_scale", {"F32", {}, to_bytes("F32", {0.01f})},
            name);
      }
    });
  }
  if (op == "dequantise") {
    return each([&](const std::string& name, Tensor& t) {
      const Json* const dtype = edit.find("dtype");
      Floats values = to_floats(t);
      for (float& value : values) value *= scale_of(name);
      t.dtype = dtype == nullptr ? "BF16" : dtype->as_string();
      t.bytes = to_bytes(t.dtype, values);
      if (!bool_at(edit, "keep_scales", true)) {
        erase(name + "_scale");
        erase(without_suffix(name, "weight") + "input_scale");
      }
    });
  }
  if (op == "unscaled_cast") {
    return each([&](const std::string& name, Tensor& t) {
      Floats values = to_floats(t);
      for (float& value : values) value *= scale_of(name);
      t.bytes = to_bytes("F8_E4M3", values);
      at(name + "_scale").bytes = to_bytes("F32", {1.0f});
    });
  }
  if (op == "requantise") {
    return each([&](const std::string& name, Tensor& t) {
      const float old = scale_of(name);
      const float scale = old * float_at(edit, "factor");
      Floats values = to_floats(t);
      for (float& value : values) value = value * old / scale;
      t.bytes = to_bytes("F8_E4M3", values);
      at(name + "_scale").bytes = to_bytes("F32", {scale});
    });
  }
  return false;
}

void BrokenCheckpoint::fuse_experts(std::int64_t layer, const std::string& scales) {
  const std::string prefix = fmt::format("model.language_model.layers.{}.experts.", layer);
  const auto count = static_cast<std::int64_t>(match(prefix + "*.gate_proj.weight").size());
  const auto take = [&](std::int64_t expert, std::string_view projection,
                        std::string_view kind) -> Tensor& {
    return at(fmt::format("{}{}.{}_proj.{}", prefix, expert, projection, kind));
  };
  const Tensor gate = take(0, "gate", "weight");
  const Tensor down = take(0, "down", "weight");
  Tensor all_gate_up{gate.dtype, {count, 2 * gate.shape.at(0), gate.shape.at(1)}, {}};
  Tensor all_down{down.dtype, {count, down.shape.at(0), down.shape.at(1)}, {}};
  for (std::int64_t expert = 0; expert < count; ++expert) {
    all_gate_up.bytes += take(expert, "gate", "weight").bytes + take(expert, "up", "weight").bytes;
    all_down.bytes += take(expert, "down", "weight").bytes;
  }
  put(prefix + "gate_up_proj", std::move(all_gate_up));
  put(prefix + "down_proj", std::move(all_down));
  if (scales != "none") {
    const bool pairs = scales == "2-D";
    for (const std::string kind : {"weight_scale", "input_scale"}) {
      Tensor of_gate{"F32", {count}, {}};
      if (pairs) of_gate.shape.push_back(2);
      Tensor of_down{"F32", {count}, {}};
      for (std::int64_t expert = 0; expert < count; ++expert) {
        of_gate.bytes += take(expert, "gate", kind).bytes;
        if (pairs) of_gate.bytes += take(expert, "up", kind).bytes;
        of_down.bytes += take(expert, "down", kind).bytes;
      }
      put(prefix + "gate_up_proj_" + kind, std::move(of_gate));
      put(prefix + "down_proj_" + kind, std::move(of_down));
    }
  }
  erase(prefix + "*.*_proj.*");
}

}  // namespace gem8::testing

#include "model/vision/image_file.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "formats/safetensors.h"
#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

Result<TensorInfo> find_tensor(const SafetensorsFile& file, std::string_view name, DType dtype,
                               std::int64_t columns) {
  const TensorInfo* found = file.find(name);
  if (found == nullptr) found = file.find(fmt::format("images.0.{}", name));
  if (found == nullptr) return fail(Code::kCorrupt, "tensor '{}' is missing", name);
  if (found->dtype != dtype || found->shape.size() != 2 || found->shape[1] != columns) {
    return fail(Code::kCorrupt, "tensor '{}': found {} {}, wanted {} [patches, {}]", found->name,
                dtype_name(found->dtype), shape_text(found->shape), dtype_name(dtype), columns);
  }
  return *found;
}

Result<Patches> read_patches(const std::filesystem::path& path) {
  GEM8_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  GEM8_TRY(const TensorInfo pixels, find_tensor(file, "pixels", DType::kF32, kPatchValues));
  GEM8_TRY(const TensorInfo positions, find_tensor(file, "positions", DType::kI64, 2));
  const std::int64_t n = pixels.shape[0];
  if (positions.shape[0] != n || n == 0) {
    return fail(Code::kCorrupt, "{} patches with {} positions", n, positions.shape[0]);
  }
  Patches patches;
  patches.pixels.resize(pixels.n_elements());
  std::memcpy(patches.pixels.data(), pixels.bytes.data(), pixels.bytes.size());
  patches.positions.resize(positions.n_elements());
  std::memcpy(patches.positions.data(), positions.bytes.data(), positions.bytes.size());
  // The last patch of a full grid stands at (columns - 1, rows - 1).
  const std::int64_t last = patches.positions[patches.positions.size() - 2];
  patches.columns = 0 <= last && last < n ? last + 1 : 0;
  const std::int64_t rows = patches.columns > 0 ? n / patches.columns : 0;
  bool is_grid = rows * patches.columns == n && rows > 0 && patches.columns % kPoolPatches == 0 &&
                 rows % kPoolPatches == 0;
  for (std::int64_t i = 0; i < n && is_grid; ++i) {
    const auto at = static_cast<std::size_t>(2 * i);
    is_grid = patches.positions[at] == i % patches.columns &&
              patches.positions[at + 1] == i / patches.columns;
  }
  if (!is_grid) {
    return fail(Code::kCorrupt,
                "the positions of {} patches are no grid in row-major order with sides that are "
                "multiples of {}",
                n, kPoolPatches);
  }
  return patches;
}

Result<Patches> read_picture(const std::filesystem::path& path, const ImageFileOptions& options) {
  GEM8_TRY(const MappedFile file, MappedFile::open(path));
  GEM8_TRY(const Image image, decode_image(file.bytes(), options.alpha));
  return preprocess_image(image, options.soft_tokens);
}

}  // namespace

Result<Patches> read_image_file(const std::filesystem::path& path,
                                const ImageFileOptions& options) {
  Result<Patches> patches =
      path.extension() == ".safetensors" ? read_patches(path) : read_picture(path, options);
  if (!patches && patches.error().text().find(path.string()) == std::string::npos) {
    return fail_in(path.string(), std::move(patches).error());
  }
  return patches;
}

}  // namespace gem8

#include "model/speed/tower_speed.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "kernels/ceilings/ceilings.h"
#include "model/vision/tower.h"

namespace gem8 {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Result<Patches> random_picture(int budget) {
  GEM8_TRY(const ImageSize size, target_size({.width = 1024, .height = 768}, budget));
  Image image{size.width, size.height,
              std::vector<std::uint8_t>(static_cast<std::size_t>(size.width) *
                                        static_cast<std::size_t>(size.height) * 3)};
  std::mt19937 random(static_cast<unsigned>(budget));
  for (std::uint8_t& byte : image.rgb) byte = static_cast<std::uint8_t>(random() >> 24);
  return cut_patches(image);
}

}  // namespace

Result<std::vector<TowerSpeed>> measure_tower(
    std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool, const TowerPlan& plan,
    const std::function<void(const std::string&)>& progress) {
  const ModelConfig& config = checkpoint->config();
  std::vector<TowerSpeed> rows;
  if (!config.vision || config.text_only_class) return rows;
  const std::unique_ptr<Device> device = make_cpu_device();
  GEM8_TRY(const std::unique_ptr<Ops> ops, make_cpu_ops(*device, pool, {}));
  GEM8_TRY(const std::unique_ptr<VisionTower> tower, VisionTower::load(checkpoint, *ops));
  for (const int budget : plan.budgets) {
    GEM8_TRY(const Patches picture, random_picture(budget));
    for (const int n_images : plan.images) {
      if (n_images == 0) continue;
      progress(fmt::format("image tower, {} pictures of {} soft tokens", n_images,
                           picture.soft_tokens()));
      const std::vector<const Patches*> pass(static_cast<std::size_t>(n_images), &picture);
      const double flops = n_images * tower->flops(picture.count());
      std::vector<double> rates, speeds, shares;
      for (int round = 0; round <= plan.rounds; ++round) {
        const double ceiling = bf16_peak_gflops(pool);
        const auto start = std::chrono::steady_clock::now();
        GEM8_TRY(const SoftTokenMatrix soft, tower->encode(pass));
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (round == 0) continue;  // grows the kernels' workspaces
        rates.push_back(n_images / seconds);
        speeds.push_back(flops / seconds * 1e-9);
        shares.push_back(speeds.back() / ceiling);
      }
      const double images_s = median(rates);
      rows.push_back({.soft_tokens = picture.soft_tokens(),
                      .images = n_images,
                      .images_s = images_s,
                      .tok_s = images_s * static_cast<double>(picture.soft_tokens()),
                      .gflops = median(speeds),
                      .share = median(shares)});
    }
  }
  return rows;
}

}  // namespace gem8

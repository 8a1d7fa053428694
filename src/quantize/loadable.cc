#include "quantize/loadable.h"

#include "backend/device.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "model/vision/tower.h"

namespace gem8 {

Status check_loadable(std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool) {
  const std::unique_ptr<Device> device = make_cpu_device();
  GEM8_TRY(const std::unique_ptr<Ops> ops, make_cpu_ops(*device, pool, {}));
  GEM8_TRY(const auto model, Model::load(checkpoint, *ops, {.max_batch_tokens = 1}));
  if (!checkpoint->config().vision || !checkpoint->stores_vision()) return {};
  const auto tower = VisionTower::load(checkpoint, *ops);
  // A tower of a kind that gem8 does not run is still copied for engines that do.
  if (!tower && tower.error().code != Code::kUnsupported) return std::unexpected(tower.error());
  return {};
}

}  // namespace gem8

#include "quantize/quantizer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "backend/device.h"
#include "formats/model_config.h"
#include "formats/shard_index.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "foundation/output_file.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "quantize/calibration_memory.h"
#include "quantize/companions.h"
#include "quantize/encode.h"
#include "quantize/fingerprint.h"
#include "quantize/folder_lock.h"
#include "quantize/loadable.h"
#include "quantize/run_state.h"

namespace gem8 {

namespace {

namespace fs = std::filesystem;
constexpr std::string_view kFingerprintKey = "gem8.made_from";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Identifies source, options and samples: what must agree for OUT to be what a run would make.
Result<Fingerprint> fingerprint_of(const Checkpoint& source, const ConversionPlan& plan,
                                   const QuantizeOptions& options) {
  Fingerprint fingerprint;
  add_checkpoint(source, fingerprint);
  GEM8_RETURN_IF_ERROR(add_companions(source.dir(), fingerprint));
  fingerprint.add(std::uint64_t{plan.scheme == Scheme::kStatic});
  fingerprint.add(options.conversion.shard_bytes);
  for (const std::string& name : plan.ignored_layers) fingerprint.add(name);
  if (plan.scheme == Scheme::kStatic) {
    fingerprint.add(dtype_name(options.calibration_dtype));
    for (const auto& sample : options.samples) {
      fingerprint.add(std::uint64_t{sample.tokens.size()});
      fingerprint.add(std::as_bytes(std::span(sample.tokens)));
      for (const SampleImage& image : sample.images) {
        fingerprint.add(static_cast<std::uint64_t>(image.position));
        fingerprint.add(static_cast<std::uint64_t>(image.options.soft_tokens));
        fingerprint.add(std::span(image.hash));
      }
    }
  }
  return fingerprint;
}

/// The folder to make, as rename() wants it: a name in a folder, symbolic links followed.
Result<fs::path> output_folder(const fs::path& asked) {
  fs::path out = asked.lexically_normal();
  if (!out.has_filename()) out = out.parent_path();  // a trailing slash
  if (out.empty() || out == "." || out.filename() == ".." || !out.has_filename()) {
    return fail(Code::kInvalidArgument, "'{}': wanted the name of a folder to make",
                asked.string());
  }
  std::error_code error;
  if (!fs::is_symlink(fs::symlink_status(out, error))) return out;
  fs::path target = fs::canonical(out, error);
  if (error) return system_error("a symbolic link that leads nowhere", out, error.value());
  return target;
}

/// The fingerprint in the metadata of a folder's first shard; empty when there is none.
std::string fingerprint_in(const fs::path& dir) {
  std::error_code error;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".safetensors") continue;
    const auto file = SafetensorsFile::open(at->path());
    if (!file) return {};
    for (const auto& [key, value] : file->metadata()) {
      if (key == kFingerprintKey) return value;
    }
    return {};
  }
  return {};
}

Status write_companions(const Checkpoint& source, const ConversionPlan& plan, const fs::path& dir) {
  ShardIndex index{.total_size = plan.total_bytes};
  for (const ConversionShard& shard : plan.shards) {
    for (const std::size_t i : shard.items) {
      const ConversionItem& item = plan.items[i];
      if (item.group == nullptr) index.weight_map[item.kept->name] = shard.file;
      for (const std::string& module : item.modules) {
        index.weight_map[module + ".weight"] = shard.file;
        index.weight_map[module + ".weight_scale"] = shard.file;
        if (plan.scheme == Scheme::kStatic) index.weight_map[module + ".input_scale"] = shard.file;
      }
    }
  }
  GEM8_RETURN_IF_ERROR(write_shard_index(dir, index));
  GEM8_RETURN_IF_ERROR(
      write_file_atomically(dir / "config.json", to_text(plan.config, {.indent = 2}) + "\n"));
  return copy_companions(source.dir(), dir);
}

std::string text_of(const verify::Finding& finding) {
  const std::string& about = finding.tensor.empty() ? finding.file : finding.tensor;
  return fmt::format("V-{:02} {}{}{}", finding.rule, about, about.empty() ? "" : ": ",
                     finding.message);
}

/// What a killed run was writing.
void remove_temporaries(const fs::path& dir) {
  std::error_code error;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    std::error_code ignored;
    if (name.find(".tmp-") != std::string::npos) fs::remove(at->path(), ignored);
  }
}

/// One conversion from beginning to end.
class Run {
 public:
  Run(std::shared_ptr<const Checkpoint> source, const ConversionPlan& plan,
      const QuantizeOptions& options, ThreadPool& pool)
      : source_(std::move(source)), plan_(plan), options_(options), pool_(pool) {}

  Result<QuantizeReport> run() {
    GEM8_TRY(out_, output_folder(options_.out));
    partial_ = out_;
    partial_ += ".partial";
    GEM8_TRY(Fingerprint fingerprint, fingerprint_of(*source_, plan_, options_));
    made_from_ = fingerprint.text();
    add_file_times(*source_, fingerprint);
    state_.fingerprint = fingerprint.text();
    GEM8_TRY(const bool done, check_out());
    if (done) return std::move(report_);
    GEM8_RETURN_IF_ERROR(check_source());
    GEM8_RETURN_IF_ERROR(prepare_partial());
    if (plan_.scheme == Scheme::kStatic) {
      if (Status ready = prepare_calibration(); !ready) {
        // Nothing to go on with later: what is wrong with the source is still to be mended.
        std::error_code ignored;
        if (begun_here_) fs::remove_all(partial_, ignored);
        return std::unexpected(std::move(ready).error());
      }
    }
    for (std::size_t i = 0; i < plan_.shards.size(); ++i) GEM8_RETURN_IF_ERROR(make_shard(i));
    GEM8_RETURN_IF_ERROR(write_companions(*source_, plan_, partial_));
    GEM8_RETURN_IF_ERROR(verify_result());
    if (calibrator_) calibrator_->remove_files();
    RunState::remove(partial_);
    std::error_code error;
    fs::rename(partial_, out_, error);
    if (error) return system_error("cannot rename the finished checkpoint to", out_, error.value());
    report_.layers = std::move(state_.layers);
    report_.calibration_samples = plan_.scheme == Scheme::kStatic ? options_.samples.size() : 0;
    return std::move(report_);
  }

 private:
  void say(std::string_view stage, std::size_t done, std::size_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }

  /// True when OUT is what this run would make.
  Result<bool> check_out() {
    std::error_code error;
    if (!fs::exists(out_, error)) return false;
    if (fs::is_directory(out_, error) && fs::is_empty(out_, error)) return false;
    if (fingerprint_in(out_) != made_from_) {
      return fail(
          Code::kInvalidArgument,
          "{}: exists and was not made from this source with these options; it is left alone",
          out_.string());
    }
    // The fingerprint samples the weights; what is said of them now is said after reading them.
    GEM8_RETURN_IF_ERROR(verify_folder(out_));
    GEM8_TRY(std::string wrong, different_companion(source_->dir(), out_));
    for (const verify::Finding& finding : report_.verification.findings) {
      if (finding.severity == verify::Severity::kError) wrong = text_of(finding);
    }
    if (!wrong.empty()) {
      return fail(Code::kInvalidArgument,
                  "{}: exists, made from this source with these options, but it or the source was "
                  "changed since: {}; it is left alone",
                  out_.string(), wrong);
    }
    report_.already_done = true;
    return true;
  }

  /// What would make the result useless, before any work is done.
  Status check_source() const {
    if (Status loadable = check_loadable(source_, pool_); !loadable) return loadable;
    for (const auto& [name, why] : broken_companions(source_->dir()))
      return source_->refuse({why.code, fmt::format("{}: {}", name, why.message)});
    return {};
  }

  Status prepare_partial() {
    std::error_code error;
    if (options_.restart && RunState::is_in(partial_)) {
      GEM8_TRY(const FolderLock lock, FolderLock::take(partial_));
      fs::remove_all(partial_, error);
    }
    GEM8_TRY(auto state, fs::exists(partial_, error)
                             ? RunState::read(partial_)
                             : Result<std::optional<RunState>>(std::nullopt));
    if (state) {
      if (state->fingerprint != state_.fingerprint) {
        return fail(Code::kInvalidArgument,
                    "{}: an unfinished run with another source, other options or other samples "
                    "(begin anew with "
                    "--restart)",
                    partial_.string());
      }
      state_.layers = std::move(state->layers);
    } else if (fs::exists(partial_, error) &&
               !(fs::is_directory(partial_, error) && fs::is_empty(partial_, error))) {
      return fail(Code::kInvalidArgument,
                  "{}: in the way, and not an unfinished run: move it or choose another output",
                  partial_.string());
    }
    begun_here_ = !state;
    fs::create_directories(partial_, error);
    if (error) return system_error("cannot create", partial_, error.value());
    GEM8_TRY(lock_, FolderLock::take(partial_));
    remove_temporaries(partial_);
    GEM8_RETURN_IF_ERROR(check_space());
    return state_.write(partial_);
  }

  /// Refuses to begin what the disk cannot hold.
  Status check_space() const {
    std::error_code error;
    const fs::space_info space = fs::space(partial_, error);
    if (error) return {};
    std::uint64_t needed = plan_.total_bytes;
    if (plan_.scheme == Scheme::kStatic) {
      std::uint64_t tokens = 0;
      for (const TokenSample& sample : options_.samples) tokens += sample.tokens.size();
      const auto hidden = static_cast<std::uint64_t>(source_->config().text.hidden);
      needed += 2 * tokens * hidden * dtype_bytes(options_.calibration_dtype);
    }
    std::uint64_t there = 0;
    for (fs::directory_iterator at(partial_, error), end; !error && at != end;
         at.increment(error)) {
      std::error_code ignored;
      if (const std::uint64_t size = at->file_size(ignored); !ignored) there += size;
    }
    if (needed <= there || needed - there <= space.available) return {};
    return fail(Code::kExhausted,
                "{}: {:.1f} MB more are needed (checkpoint and calibration), the disk has {:.1f} "
                "MB left",
                partial_.string(), static_cast<double>(needed - there) / 1e6,
                static_cast<double>(space.available) / 1e6);
  }

  Status prepare_calibration() {
    const auto n_layers = static_cast<std::size_t>(source_->config().text.n_layers);
    if (state_.layers.size() > n_layers)
      return fail(Code::kCorrupt, "the unfinished run has too many layers");
    report_.resumed_layers = static_cast<std::int32_t>(state_.layers.size());
    if (state_.layers.size() == n_layers) return {};  // only shards are missing
    std::int64_t longest = 1;
    bool sees = false;
    for (const auto& sample : options_.samples) {
      longest = std::max(longest, static_cast<std::int64_t>(sample.tokens.size()));
      sees |= !sample.images.empty();
    }
    const std::int64_t step = std::max(longest, options_.max_sample_tokens);
    GEM8_TRY(const std::uint64_t room,
             room_for_hidden_states(
                 calibration_memory(*source_, options_.samples, step, options_.calibration_dtype),
                 options_.memory_bytes));
    device_ = make_cpu_device();
    GEM8_TRY(ops_, make_cpu_ops(*device_, pool_, {.activation_dtype = options_.calibration_dtype}));
    GEM8_TRY(model_,
             Model::load(source_, *ops_,
                         {.max_batch_tokens = step,
                          .unrounded_embedding_scale = options_.calibration_dtype == DType::kF32}));
    if (sees) {
      GEM8_TRY(tower_, VisionTower::load(source_, *ops_));
    }
    GEM8_TRY(calibrator_, Calibrator::create(*source_, {model_.get(), tower_.get()},
                                             options_.samples, partial_, room));
    report_.calibration_tokens = calibrator_->tokens();
    const auto finished = static_cast<std::int32_t>(state_.layers.size());
    if (finished > 0) {
      if (calibrator_->resume(finished)) {
        log_info("continuing at layer {}", finished);
        return {};
      }
      log_info(
          "calibrating again from the first layer: hidden states of the interrupted run are of no "
          "use");
      state_.layers.clear();
      report_.resumed_layers = 0;
    }
    return calibrator_->start();
  }

  Status calibrate_up_to(std::size_t n_layers) {
    const auto start = std::chrono::steady_clock::now();
    const auto total = static_cast<std::size_t>(source_->config().text.n_layers);
    while (state_.layers.size() < n_layers) {
      say("calibrating", state_.layers.size(), total);
      Result<LayerStatistics> statistics = calibrator_->next_layer();
      if (!statistics) return source_->refuse(std::move(statistics).error());
      state_.layers.push_back(*std::move(statistics));
      GEM8_RETURN_IF_ERROR(state_.write(partial_));
    }
    report_.seconds_calibrating += seconds_since(start);
    return {};
  }

  std::vector<InputScales> input_scales() const {
    std::vector<InputScales> scales;
    for (const LayerStatistics& layer : state_.layers) {
      InputScales& of_layer = scales.emplace_back();
      for (std::size_t site = 0; site < kInputSites; ++site)
        of_layer[site] = scale_of(layer.amax[site]);
    }
    return scales;
  }

  Status make_shard(std::size_t i) {
    const ConversionShard& shard = plan_.shards[i];
    GEM8_TRY(auto written, read_written_shard(partial_, plan_, shard));
    if (!written) {
      if (plan_.scheme == Scheme::kStatic) {
        std::size_t layers = 0;
        for (const std::size_t item : shard.items) {
          if (plan_.items[item].group != nullptr) {
            layers = std::max(layers, static_cast<std::size_t>(plan_.items[item].layer) + 1);
          }
        }
        GEM8_RETURN_IF_ERROR(calibrate_up_to(layers));
      }
      const auto start = std::chrono::steady_clock::now();
      say("writing", i, plan_.shards.size());
      GEM8_TRY(auto fresh,
               write_shard(partial_, *source_, plan_, shard, input_scales(),
                           {{"format", "pt"}, {std::string(kFingerprintKey), made_from_}}, pool_));
      written = std::move(fresh);
      report_.seconds_writing += seconds_since(start);
    }
    std::ranges::move(*written, std::back_inserter(report_.linears));
    return {};
  }

  Status verify_folder(const fs::path& dir) {
    const auto start = std::chrono::steady_clock::now();
    say("verifying", 0, 1);
    GEM8_TRY(report_.verification, verify::verify_checkpoint(dir, {.source = source_}, pool_));
    report_.verification.checkpoint = out_.string();
    report_.seconds_verifying = seconds_since(start);
    return {};
  }

  Status verify_result() {
    GEM8_RETURN_IF_ERROR(verify_folder(partial_));
    for (const verify::Finding& finding : report_.verification.findings) {
      if (finding.severity != verify::Severity::kError) continue;
      return fail(Code::kInternal, "{}: what was written does not pass its own check: {}",
                  partial_.string(), text_of(finding));
    }
    return {};
  }

  std::shared_ptr<const Checkpoint> source_;
  const ConversionPlan& plan_;
  const QuantizeOptions& options_;
  ThreadPool& pool_;
  fs::path out_, partial_;
  FolderLock lock_;
  std::string made_from_;    // in the shards' metadata
  bool begun_here_ = false;  // no earlier run left anything in partial_
  RunState state_;
  QuantizeReport report_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<VisionTower> tower_;
  std::unique_ptr<Calibrator> calibrator_;
};

}  // namespace

Result<QuantizeReport> quantize(std::shared_ptr<const Checkpoint> source,
                                const ConversionPlan& plan, const QuantizeOptions& options,
                                ThreadPool& pool) {
  return Run(std::move(source), plan, options, pool).run();
}

}  // namespace gem8

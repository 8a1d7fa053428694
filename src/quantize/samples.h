#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "quantize/sample_images.h"
#include "quantize/token_sample.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8 {

/// Makes tokens and pictures of chats and texts as a checkpoint wants them. Its tokenizer, template
/// and image settings are read when the first line needs them. Their errors are the methods'.
class SampleEncoder {
 public:
  /// `checkpoint` must outlive this. Paths of pictures are relative to `folder`.
  SampleEncoder(const Checkpoint& checkpoint, std::filesystem::path folder)
      : checkpoint_(checkpoint), folder_(std::move(folder)) {}

  Result<const Tokenizer*> tokenizer();

  /// Reads the files of the checkpoint that this line needs, unless they are read: an error here is
  /// the checkpoint's, not the line's.
  Status prepare_for(const Json& line);

  /// A line's "messages", "tools" and "chat_template_kwargs" through the chat template, with one
  /// <bos> at the front, and its pictures (see SampleImageReader). `generation_prompt` asks for the
  /// beginning of the model's turn at the end. Errors: kInvalidArgument, kUnsupported.
  Result<TokenSample> chat(const Json& line, bool generation_prompt);
  /// Plain text with one <bos> at the front.
  Result<TokenSample> text(std::string_view text);

 private:
  const Checkpoint& checkpoint_;
  std::filesystem::path folder_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
  std::optional<SampleImageReader> images_;
};

struct SampleOptions {
  std::size_t max_samples = 512;
  std::size_t max_tokens = 2048;  ///< longer samples are cut
  std::filesystem::path folder;   ///< what relative paths of pictures start from
};

struct Samples {
  std::vector<TokenSample> samples;
  std::size_t cut = 0;          ///< samples longer than the limit
  std::size_t with_images = 0;  ///< samples that show pictures (after cutting)
};

/// The samples of a JSONL text, one per line: {"messages": [...]} rendered with the checkpoint's
/// chat template (with "tools", "chat_template_kwargs" and pictures where given), {"text": "..."}
/// or {"tokens": [ids]}, which are taken as they are. `name` is what errors call the text. Errors:
/// kInvalidArgument naming the line, also when there is no sample at all; those of SampleEncoder.
Result<Samples> read_samples(std::string_view jsonl, std::string_view name,
                             const Checkpoint& checkpoint, const SampleOptions& options);

/// Short chats in several languages, code, arithmetic and tool calls, as JSONL: what calibration
/// runs on when nothing else is given.
std::string_view builtin_calibration();

}  // namespace gem8

#include <algorithm>
#include <array>

#include "foundation/json/fields.h"
#include "foundation/json/json.h"
#include "text/tokenizer/json_scanner.h"
#include "text/tokenizer/tokenizer_data.h"
#include "text/unicode/utf8.h"

namespace gem8 {
namespace {

constexpr std::size_t kMaxSmallPart = std::size_t{8} << 20;  // everything but vocabulary and merges

std::unexpected<Error> unsupported(std::string_view what, const Json& found) {
  return fail(Code::kUnsupported, "{} {} is not implemented", what, to_text(found).substr(0, 200));
}

/// {"type": "Replace", "pattern": {"String": P}, "content": C}
Result<TextReplacement> read_replacement(const Json& json, std::string_view where) {
  const JsonFields fields(json, where);
  GEM8_TRY(const Json* pattern, fields.object("pattern"));
  const Json* text = pattern->find("String");
  if (text == nullptr || !text->is_string() || text->as_string().empty())
    return unsupported(where, json);
  GEM8_TRY(const std::string content, fields.string("content"));
  return TextReplacement{text->as_string(), content};
}

Result<std::string> type_of(const Json& json, std::string_view where) {
  if (!json.is_object())
    return fail(Code::kCorrupt, "{}: found {}, wanted object", where, json.kind_name());
  return JsonFields(json, where).string("type");
}

/// The members of a Sequence, or the value itself.
Result<std::vector<const Json*>> steps_of(const Json& json, std::string_view where,
                                          std::string_view list_key) {
  std::vector<const Json*> steps;
  if (json.is_null()) return steps;
  GEM8_TRY(const std::string type, type_of(json, where));
  if (type != "Sequence") return std::vector<const Json*>{&json};
  GEM8_TRY(const Json* list, JsonFields(json, where).optional_array(list_key));
  if (list == nullptr) return unsupported(where, json);
  for (const Json& step : list->as_array()) steps.push_back(&step);
  return steps;
}

Status check_post_processor(const Json& json) {
  if (json.is_null()) return {};
  GEM8_TRY(const std::string type, type_of(json, "post_processor"));
  if (type != "TemplateProcessing") return unsupported("post_processor", json);
  const Json* single = json.find("single");
  if (single == nullptr || !single->is_array() || single->as_array().size() != 1 ||
      single->as_array().front().find("Sequence") == nullptr) {
    return unsupported("post_processor", json);  // it would add tokens
  }
  return {};
}

}  // namespace

class TokenizerReader {
 public:
  explicit TokenizerReader(std::string_view json) : scanner_(json) {}

  Result<std::unique_ptr<Tokenizer::Data>> read();

 private:
  Result<Json> small_value(std::string_view key);
  /// Calls read_member(key) for every member of the object that comes next; none may come twice,
  /// and `required` must be there. `where` begins the messages.
  template <class ReadMember>
  Status each_member(std::string_view where, std::string_view required, ReadMember&& read_member);
  Status read_part(const std::string& key, Json& added);
  Status read_model();
  Status read_vocabulary();
  Status read_merges(std::string_view text);
  Status read_added_tokens(const Json& json);
  Status read_normalizer(const Json& json);
  Status read_pre_tokenizer(const Json& json);
  Status read_decoder(const Json& json);

  JsonScanner scanner_;
  std::unique_ptr<Tokenizer::Data> data_ = std::make_unique<Tokenizer::Data>();
};

Result<Json> TokenizerReader::small_value(std::string_view key) {
  GEM8_TRY(const std::string_view text, scanner_.raw_value());
  auto value = parse_json(text, {.max_bytes = kMaxSmallPart});
  if (!value) return fail_in(key, std::move(value).error());
  return value;
}

template <class ReadMember>
Status TokenizerReader::each_member(std::string_view where, std::string_view required,
                                    ReadMember&& read_member) {
  GEM8_RETURN_IF_ERROR(scanner_.begin_object());
  std::vector<std::string> seen;
  std::string_view key_view;
  for (bool first = true;;) {
    GEM8_TRY(const bool more, scanner_.next_member(first, key_view));
    if (!more) break;
    const std::string key(key_view);
    if (std::ranges::find(seen, key) != seen.end())
      return fail(Code::kCorrupt, "{}'{}' appears twice", where, key);
    seen.push_back(key);
    GEM8_RETURN_IF_ERROR(read_member(key));
  }
  if (std::ranges::find(seen, required) == seen.end())
    return fail(Code::kCorrupt, "{}'{}' is missing", where, required);
  return {};
}

Result<std::unique_ptr<Tokenizer::Data>> TokenizerReader::read() {
  Json added;
  GEM8_RETURN_IF_ERROR(each_member(
      "", "model", [&](const std::string& key) -> Status { return read_part(key, added); }));
  GEM8_RETURN_IF_ERROR(scanner_.end());
  GEM8_RETURN_IF_ERROR(read_added_tokens(added));
  return std::move(data_);
}

Status TokenizerReader::read_part(const std::string& key, Json& added) {
  if (key == "model") return read_model();
  GEM8_TRY(Json value, small_value(key));
  if (key == "version") {
    if (!value.is_string() || value.as_string() != "1.0") return unsupported(key, value);
    return {};
  }
  if (key == "added_tokens") {
    added = std::move(value);
    return {};
  }
  if (key == "normalizer") return read_normalizer(value);
  if (key == "pre_tokenizer") return read_pre_tokenizer(value);
  if (key == "post_processor") return check_post_processor(value);
  if (key == "decoder") return read_decoder(value);
  if (!value.is_null())
    return unsupported(fmt::format("'{}'", key), value);  // as truncation, padding
  return {};
}

Status TokenizerReader::read_model() {
  bool byte_fallback = false;
  bool fuse = false;
  std::optional<std::string> unknown;
  std::string_view merges;
  const auto read_member = [&](const std::string& key) -> Status {
    if (key == "vocab") return read_vocabulary();
    if (key == "merges") {  // after the vocabulary, wherever it stands
      GEM8_TRY(merges, scanner_.raw_value());
      return {};
    }
    GEM8_TRY(const Json value, small_value(key));
    if (key == "type") {
      if (!value.is_string() || value.as_string() != "BPE") return unsupported("model type", value);
    } else if (key == "byte_fallback" || key == "fuse_unk" || key == "ignore_merges") {
      if (!value.is_bool())
        return fail(Code::kCorrupt, "model: '{}': found {}, wanted boolean", key,
                    value.kind_name());
      if (key == "byte_fallback") byte_fallback = value.as_bool();
      if (key == "fuse_unk") fuse = value.as_bool();
      if (key == "ignore_merges" && value.as_bool())
        return unsupported("model: 'ignore_merges'", value);
    } else if (key == "unk_token" && value.is_string()) {
      unknown = value.as_string();
    } else if (!value.is_null() && !(value.is_string() && value.as_string().empty())) {
      return unsupported(fmt::format("model: '{}'", key), value);
    }
    return {};
  };
  GEM8_RETURN_IF_ERROR(each_member("model: ", "vocab", read_member));
  if (!merges.empty()) GEM8_RETURN_IF_ERROR(read_merges(merges));
  std::optional<TokenId> unknown_id;
  if (unknown) {
    unknown_id = data_->vocabulary.find(*unknown);
    if (!unknown_id)
      return fail(Code::kCorrupt, "model: unk_token '{}' is not in the vocabulary", *unknown);
  }
  return data_->bpe.finish(data_->vocabulary, byte_fallback, {.id = unknown_id, .fuse = fuse});
}

Status TokenizerReader::read_vocabulary() {
  GEM8_RETURN_IF_ERROR(scanner_.begin_object());
  std::string_view key;
  for (bool first = true;;) {
    GEM8_TRY(const bool more, scanner_.next_member(first, key));
    if (!more) return {};
    GEM8_TRY(const std::int64_t id, scanner_.integer());
    GEM8_RETURN_IF_ERROR(data_->vocabulary.add(key, id));
  }
}

namespace {

/// Merges on their way into the table. The look-ups miss every cache, so each waits while the
/// memory it needs is fetched: a ring of 16 in two steps loads the published file in less than half
/// the time.
class MergeQueue {
 public:
  MergeQueue(const Vocabulary& vocabulary, Bpe& bpe) : vocabulary_(vocabulary), bpe_(bpe) {}

  Status push(std::string_view left, std::string_view right) {
    if (n_pushed_ >= kDepth) GEM8_RETURN_IF_ERROR(settle(ring_[n_pushed_ % kDepth]));
    Pending& fresh = ring_[n_pushed_ % kDepth];
    fresh.joined.assign(left);
    fresh.joined += right;
    fresh.n_left = left.size();
    fresh.hashes = {Vocabulary::hash_of(left), Vocabulary::hash_of(right),
                    Vocabulary::hash_of(fresh.joined)};
    for (const std::uint64_t hash : fresh.hashes) vocabulary_.prefetch(hash);
    ++n_pushed_;
    if (n_pushed_ > kDepth / 2) {
      for (const std::uint64_t hash : ring_[(n_pushed_ - kDepth / 2 - 1) % kDepth].hashes)
        vocabulary_.prefetch_text(hash);
    }
    return {};
  }
  Status finish() {
    for (std::size_t i = n_pushed_ < kDepth ? 0 : n_pushed_ - kDepth; i < n_pushed_; ++i) {
      GEM8_RETURN_IF_ERROR(settle(ring_[i % kDepth]));
    }
    return {};
  }

 private:
  static constexpr std::size_t kDepth = 16;
  struct Pending {
    std::string joined;
    std::size_t n_left = 0;
    std::array<std::uint64_t, 3> hashes{};
  };

  Status settle(const Pending& pending) {
    const std::string_view joined = pending.joined;
    const std::string_view left = joined.substr(0, pending.n_left),
                           right = joined.substr(pending.n_left);
    const auto left_id = vocabulary_.find(left, pending.hashes[0]),
               right_id = vocabulary_.find(right, pending.hashes[1]);
    if (!left_id || !right_id) {
      return fail(Code::kCorrupt, "merges: '{}' is not in the vocabulary", left_id ? right : left);
    }
    return bpe_.add_merge(vocabulary_, *left_id, *right_id,
                          vocabulary_.find(joined, pending.hashes[2]));
  }

  const Vocabulary& vocabulary_;
  Bpe& bpe_;
  std::array<Pending, kDepth> ring_;
  std::size_t n_pushed_ = 0;
};

}  // namespace

Status TokenizerReader::read_merges(std::string_view text) {
  JsonScanner scanner(text);
  if (data_->vocabulary.size() == 0)
    return fail(Code::kCorrupt, "model: merges without a vocabulary");
  MergeQueue queue(data_->vocabulary, data_->bpe);
  data_->bpe.reserve(2 * data_->vocabulary.size());
  GEM8_RETURN_IF_ERROR(scanner.begin_array());
  std::string left;
  for (bool first = true;;) {
    GEM8_TRY(const bool more, scanner.next_item(first));
    if (!more) break;
    if (scanner.at_string()) {  // "left right", as older files have it
      GEM8_TRY(const std::string_view pair, scanner.string());
      const std::size_t space = pair.find(' ');
      if (space == std::string_view::npos || pair.find(' ', space + 1) != std::string_view::npos) {
        return fail(Code::kCorrupt, "merges: '{}', wanted two parts and one space", pair);
      }
      GEM8_RETURN_IF_ERROR(queue.push(pair.substr(0, space), pair.substr(space + 1)));
      continue;
    }
    GEM8_RETURN_IF_ERROR(scanner.begin_array());
    std::size_t n = 0;
    for (bool first_of_pair = true;; ++n) {
      GEM8_TRY(const bool more_in_pair, scanner.next_item(first_of_pair));
      if (!more_in_pair) break;
      if (n == 2) return fail(Code::kCorrupt, "merges: more than two parts");
      GEM8_TRY(const std::string_view piece, scanner.string());
      if (n == 0) {
        left = piece;
      } else {
        GEM8_RETURN_IF_ERROR(queue.push(left, piece));
      }
    }
    if (n != 2) return fail(Code::kCorrupt, "merges: {} parts, wanted 2", n);
  }
  GEM8_RETURN_IF_ERROR(queue.finish());
  return scanner.end();
}

Status TokenizerReader::read_added_tokens(const Json& json) {
  if (json.is_null()) return {};
  if (!json.is_array())
    return fail(Code::kCorrupt, "added_tokens: found {}, wanted array", json.kind_name());
  Vocabulary& vocabulary = data_->vocabulary;
  for (const Json& item : json.as_array()) {
    if (!item.is_object())
      return fail(Code::kCorrupt, "added_tokens: found {}, wanted objects", item.kind_name());
    const JsonFields fields(item, "added_tokens");
    GEM8_TRY(const std::string content, fields.string("content"));
    GEM8_TRY(const std::int64_t id, fields.integer("id", 0, 1 << 24));
    if (content.empty()) return fail(Code::kCorrupt, "added_tokens: id {} has no content", id);
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
      GEM8_TRY(const bool set, fields.optional_boolean(flag, false));
      if (set) return unsupported(fmt::format("added_tokens: '{}' of", flag), item);
    }
    GEM8_TRY(const bool special, fields.optional_boolean("special", false));
    const auto known = vocabulary.find(content);
    if (!known) {
      GEM8_RETURN_IF_ERROR(vocabulary.add(content, id));
    } else if (value_of(*known) != id) {
      return fail(Code::kCorrupt, "added token '{}' has id {}, the vocabulary says {}", content, id,
                  value_of(*known));
    }
    const auto token = static_cast<TokenId>(id);
    data_->all_added.add(content, token);
    if (special) {
      if (data_->special.size() <= static_cast<std::size_t>(id))
        data_->special.resize(static_cast<std::size_t>(id) + 1);
      data_->special[static_cast<std::size_t>(id)] = true;
    } else {
      data_->ordinary_added.add(content, token);
    }
  }
  return {};
}

Status TokenizerReader::read_normalizer(const Json& json) {
  GEM8_TRY(const auto steps, steps_of(json, "normalizer", "normalizers"));
  for (const Json* step : steps) {
    GEM8_TRY(const std::string type, type_of(*step, "normalizer"));
    if (type != "Replace") return unsupported("normalizer", *step);
    GEM8_TRY(TextReplacement replacement, read_replacement(*step, "normalizer"));
    data_->normalizer.push_back(std::move(replacement));
  }
  return {};
}

Status TokenizerReader::read_pre_tokenizer(const Json& json) {
  if (json.is_null()) return {};
  GEM8_TRY(const std::string type, type_of(json, "pre_tokenizer"));
  const JsonFields fields(json, "pre_tokenizer");
  if (type != "Split") return unsupported("pre_tokenizer", json);
  GEM8_TRY(const Json* pattern, fields.object("pattern"));
  GEM8_TRY(const std::string behavior, fields.string("behavior"));
  GEM8_TRY(const bool invert, fields.optional_boolean("invert", false));
  const Json* text = pattern->find("String");
  if (text == nullptr || !text->is_string() || text->as_string().empty() ||
      behavior != "MergedWithPrevious" || invert) {
    return unsupported("pre_tokenizer", json);
  }
  data_->split_after = text->as_string();
  return {};
}

Status TokenizerReader::read_decoder(const Json& json) {
  GEM8_TRY(const auto steps, steps_of(json, "decoder", "decoders"));
  // Replace..., ByteFallback?, Fuse: in this order, for only then do per-token replacement and
  // joined bytes mean the same.
  enum class Stage { kReplace, kBytes, kFused } stage = Stage::kReplace;
  for (const Json* step : steps) {
    GEM8_TRY(const std::string type, type_of(*step, "decoder"));
    if (type == "Replace" && stage == Stage::kReplace) {
      GEM8_TRY(TextReplacement replacement, read_replacement(*step, "decoder"));
      data_->decoder.push_back(std::move(replacement));
    } else if (type == "ByteFallback" && stage == Stage::kReplace) {
      data_->byte_fallback = true;
      stage = Stage::kBytes;
    } else if (type == "Fuse" && stage != Stage::kFused) {
      stage = Stage::kFused;
    } else {
      return unsupported("decoder", *step);
    }
  }
  if (stage != Stage::kFused) return unsupported("decoder without Fuse:", json);
  return {};
}

Result<std::unique_ptr<Tokenizer::Data>> TokenizerFile::read(std::string_view json) {
  if (!utf8::is_valid(json)) return fail(Code::kCorrupt, "not valid UTF-8");
  return TokenizerReader(json).read();
}

}  // namespace gem8

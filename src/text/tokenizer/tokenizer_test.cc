#include "text/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include "foundation/mapped_file.h"
#include "tests/support/json_lines.h"
#include "tests/support/shared_folder.h"
#include "text/tokenizer/incremental_decoder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

std::vector<TokenId> ids_of(const Json& json) {
  std::vector<TokenId> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<TokenId>(id.as_int()));
  return ids;
}

void check_vectors(const fs::path& folder) {
  const auto tokenizer = Tokenizer::load(folder);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().text();
  for (const Json& row : testing::read_json_lines(folder / "encode.jsonl")) {
    const std::string& text = row.find("text")->as_string();
    EXPECT_EQ(tokenizer->encode(text), ids_of(*row.find("ids"))) << text.substr(0, 200);
  }
  for (const Json& row : testing::read_json_lines(folder / "decode.jsonl")) {
    EXPECT_EQ(
        tokenizer->decode(ids_of(*row.find("ids")), row.find("skip_special_tokens")->as_bool()),
        row.find("text")->as_string())
        << to_text(row);
  }
  for (const Json& row : testing::read_json_lines(folder / "stream.jsonl")) {
    IncrementalDecoder decoder(*tokenizer, row.find("skip_special_tokens")->as_bool());
    const auto ids = ids_of(*row.find("ids"));
    const auto& chunks = row.find("incremental_chunks")->as_array();
    const auto& prefixes = row.find("decode_prefixes")->as_array();
    ASSERT_EQ(chunks.size(), ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(decoder.feed(ids[i]), chunks[i].as_string())
          << i << " of " << to_text(row).substr(0, 500);
      ASSERT_EQ(tokenizer->decode({ids.data(), i + 1}, row.find("skip_special_tokens")->as_bool()),
                prefixes[i].as_string());
    }
    EXPECT_EQ(decoder.flush(), row.find("incremental_flush")->as_string());
  }
}

fs::path small_folder() {
  return fs::path(GEM8_TEST_DATA) / "golden/tokenizer/small";
}

TEST(Tokenizer, ReproducesEveryVectorOfTheSmallVocabulary) {
  check_vectors(small_folder());
}

TEST(Tokenizer, ReproducesEveryVectorOfTheRealVocabulary) {
  const auto shared = testing::shared_folder();
  if (!shared) GTEST_SKIP() << "the real vocabulary is not here (GEM8_SHARED)";
  check_vectors(*shared / "golden/tokenizer/gemma4-26b-a4b");
}

TEST(Tokenizer, SpecialTextCanStayText) {
  const auto tokenizer = Tokenizer::load(small_folder());
  ASSERT_TRUE(tokenizer.has_value());
  const auto ids = tokenizer->encode("<|turn>user", Tokenizer::AddedTokenText::kOrdinary);
  for (const TokenId id : ids) EXPECT_FALSE(tokenizer->is_special(id)) << tokenizer->piece(id);
  EXPECT_EQ(tokenizer->decode(ids), "<|turn>user");
  EXPECT_EQ(tokenizer->encode("<|turn>user").front(), tokenizer->token_id("<|turn>"));
}

TEST(Tokenizer, EncodesInvalidBytesAsReplacementCharacters) {
  const auto tokenizer = Tokenizer::load(small_folder());
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xFF\xE4\xBD"
                                                "b")),
            "a\uFFFD\uFFFD\uFFFDb");
}

TEST(Tokenizer, RepeatedCharactersStayNearLinear) {
  const auto tokenizer = Tokenizer::load(small_folder());
  ASSERT_TRUE(tokenizer.has_value());
  for (const char* unit : {"a", " ", "\n", "\u4e2d", "\U0001F600"}) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    const auto ids = tokenizer->encode(text);
    EXPECT_EQ(tokenizer->decode(ids), text);
  }
}

/// A tokenizer.json with one member replaced or added, in dotted notation.
std::string edited(std::string_view path, std::string_view value) {
  auto text = read_text_file(small_folder() / "tokenizer.json");
  auto json = parse_json(*text);
  Json* at = &*json;
  for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    at = at->find(path.substr(0, dot));
    path.remove_prefix(dot + 1);
  }
  at->set(path, *parse_json(value));
  return to_text(*json);
}

TEST(Tokenizer, RefusesByNameWhatItDoesNotImplement) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.type", R"("Unigram")"},
      {"model.dropout", "0.1"},
      {"model.ignore_merges", "true"},
      {"model.end_of_word_suffix", R"("</w>")"},
      {"model.something_new", "1"},
      {"normalizer", R"({"type":"NFC"})"},
      {"normalizer", R"({"type":"Replace","pattern":{"Regex":" +"},"content":"_"})"},
      {"pre_tokenizer", R"({"type":"ByteLevel","add_prefix_space":false})"},
      {"pre_tokenizer",
       R"({"type":"Split","pattern":{"String":" "},"behavior":"Isolated","invert":false})"},
      {"post_processor",
       R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<bos>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]})"},
      {"decoder", R"({"type":"ByteLevel"})"},
      {"decoder", R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})"},
      {"truncation", R"({"max_length":5})"},
      {"padding", R"({"strategy":"BatchLongest"})"},
      {"added_tokens", R"([{"id":0,"content":"<pad>","lstrip":true}])"},
      {"added_tokens", R"([{"id":0,"content":"<pad>","normalized":true}])"},
      {"version", R"("2.0")"},
      {"unheard_of", "{}"},
  };
  for (const auto& [path, value] : cases) {
    const auto tokenizer = Tokenizer::parse(edited(path, value));
    ASSERT_FALSE(tokenizer.has_value()) << path << " " << value;
    EXPECT_EQ(tokenizer.error().code, Code::kUnsupported)
        << path << ": " << tokenizer.error().text();
  }
}

TEST(Tokenizer, RefusesFilesThatContradictThemselves) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.vocab", R"({"a":0,"b":0})"},
      {"model.vocab", R"({"a":-1})"},
      {"model.vocab", R"({"a":99999999999})"},
      {"model.vocab", R"({"a":1.5})"},
      {"model.vocab", R"([])"},
      {"model.merges", R"([["a","nosuchtoken"]])"},
      {"model.merges", R"([["a"]])"},
      {"model.merges", R"([["a","b","c"]])"},
      {"model.merges", R"(["a b c"])"},
      {"model.merges", R"([["<bos>","<eos>"]])"},
      {"model.merges", R"({})"},
      {"model.unk_token", R"("<nosuch>")"},
      {"model.byte_fallback", "1"},
      {"added_tokens", R"([{"id":1,"content":"<pad>"}])"},
      {"added_tokens", R"([{"id":5000,"content":""}])"},
      {"added_tokens", R"(3)"},
      {"normalizer", R"("x")"},
  };
  for (const auto& [path, value] : cases) {
    const auto tokenizer = Tokenizer::parse(edited(path, value));
    ASSERT_FALSE(tokenizer.has_value()) << path << " " << value;
    EXPECT_EQ(tokenizer.error().code, Code::kCorrupt) << path << ": " << tokenizer.error().text();
  }
  for (const char* text : {"", "[]", "{", "{}", "{\"model\":{}}", "{\"model\":1}", "\xFF",
                           "{\"a\":null,\"a\":null}", "{\"model\":{\"vocab\":{\"a\":0}}} x"}) {
    const auto tokenizer = Tokenizer::parse(text);
    ASSERT_FALSE(tokenizer.has_value()) << text;
    EXPECT_EQ(tokenizer.error().code, Code::kCorrupt) << text << ": " << tokenizer.error().text();
  }
}

TEST(Tokenizer, ReadsMergesInTheOlderForm) {
  const auto text = read_text_file(small_folder() / "tokenizer.json");
  auto json = parse_json(*text);
  Json& merges = *json->find("model")->find("merges");
  for (Json& merge : merges.as_array()) {
    merge = Json(merge.as_array()[0].as_string() + " " + merge.as_array()[1].as_string());
  }
  const auto older = Tokenizer::parse(to_text(*json, {.indent = 2}));
  ASSERT_TRUE(older.has_value()) << older.error().text();
  const auto newer = Tokenizer::load(small_folder());
  const std::string sample = "The user asks a question;\n\n\n\tthe model answers it: 42.";
  EXPECT_EQ(older->encode(sample), newer->encode(sample));
}

TEST(Tokenizer, UnknownCharactersWithoutByteFallback) {
  const std::string head = R"({"version":"1.0","model":{"type":"BPE","unk_token":"?","fuse_unk":)";
  const std::string tail =
      R"(,"vocab":{"?":0,"a":1,"b":2,"ab":3},"merges":["a b"]},"decoder":{"type":"Fuse"}})";
  const auto fused = Tokenizer::parse(head + "true" + tail);
  ASSERT_TRUE(fused.has_value()) << fused.error().text();
  EXPECT_EQ(fused->decode(fused->encode("abxyab")), "ab?ab");
  const auto apart = Tokenizer::parse(head + "false" + tail);
  ASSERT_TRUE(apart.has_value());
  EXPECT_EQ(apart->decode(apart->encode("abxyab")), "ab??ab");
  EXPECT_EQ(apart->encode("ab").size(), 1u);
}

}  // namespace
}  // namespace gem8

// Images of chat requests, through the real binary and the model that ships with it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "tests/e2e/served.h"
#include "tests/support/base64.h"
#include "tests/support/loopback_server.h"

namespace gem8::testing {
namespace {

namespace fs = std::filesystem;

const std::string kDemo = demo_model().string();
const std::string kVision = std::string(GEM8_TEST_DATA) + "/golden/vision/";

std::string data_url(const std::string& path) {
  const auto bytes = read_text_file(path);
  EXPECT_TRUE(bytes.has_value()) << path;
  return "data:image/png;base64," + encode_base64(bytes.value_or(""));
}

Json text_part(std::string_view text) {
  return Json::object({{"type", "text"}, {"text", text}});
}
Json image_part(std::string_view url) {
  return Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", url}})}});
}
Json user(Json content) {
  return Json::object({{"role", "user"}, {"content", std::move(content)}});
}
Json greedy(Json messages) {
  return Json::object({{"messages", std::move(messages)}, {"temperature", 0}, {"max_tokens", 32}});
}
Json ask_about(std::string_view url, std::string_view question) {
  return greedy(Json::array({user(Json::array({image_part(url), text_part(question)}))}));
}

struct Answer {
  int status = 0;
  Json body;

  std::string text() const {
    const Json* choices = body.find("choices");
    if (choices == nullptr) return {};
    return choices->as_array().at(0).find("message")->find("content")->as_string();
  }
  std::int64_t prompt_tokens() const {
    const Json* usage = body.find("usage");
    return usage == nullptr ? -1 : usage->find("prompt_tokens")->as_int();
  }
  std::string param() const {
    const Json* error = body.find("error");
    const Json* param = error == nullptr ? nullptr : error->find("param");
    return param != nullptr && param->is_string() ? param->as_string() : "";
  }
};

Answer post_to(const Served& served, const Json& body,
               std::string_view path = "/v1/chat/completions") {
  const HttpClient::Reply reply = served.ask("POST", path, to_text(body));
  auto parsed = parse_json(reply.body);
  EXPECT_TRUE(parsed.has_value()) << reply.status << " " << reply.body;
  return {reply.status, parsed.value_or(Json())};
}

class ImageServer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    const fs::path folder = folder_->path();
    fs::create_directories(folder / "open");
    fs::copy_file(kDemo + "/images/002.png", folder / "open" / "in.png");
    fs::copy_file(kDemo + "/images/002.png", folder / "out.png");
    fs::create_symlink(folder / "out.png", folder / "open" / "link.png");
    served_ = std::make_unique<Served>(
        std::vector<std::string>{"--limit-mm-per-prompt", R"({"image": 3})",
                                 "--allowed-media-domains", "127.0.0.1", "localhost",
                                 "nowhere.invalid", "--allowed-local-media-path",
                                 (folder / "open").string()},
        demo_model());
  }
  static void TearDownTestSuite() {
    served_.reset();
    folder_.reset();
  }

  static Answer post(const Json& body, std::string_view path = "/v1/chat/completions") {
    return post_to(*served_, body, path);
  }

  static std::unique_ptr<TemporaryFolder> folder_;
  static std::unique_ptr<Served> served_;
};

std::unique_ptr<TemporaryFolder> ImageServer::folder_;
std::unique_ptr<Served> ImageServer::served_;

TEST_F(ImageServer, SeesWhatIsInAPicture) {
  // Of the held-out data, where the reference implementation gives the same answers.
  const Answer colour =
      post(ask_about(data_url(kDemo + "/images/002.png"), "Tell me the colour of the shape."));
  EXPECT_EQ(colour.status, 200);
  EXPECT_EQ(colour.text(), "It is pink.");
}

TEST_F(ImageServer, AnswersEverySpellingOfAnImagePartAlike) {
  const std::string url = data_url(kDemo + "/images/002.png");
  const std::string question = "Tell me the colour of the shape.";
  const std::string expected = post(ask_about(url, question)).text();
  const Json bare = Json::object({{"type", "image_url"}, {"image_url", url}});
  const Json input = Json::object({{"type", "input_image"}, {"image_url", url}});
  const Json untyped =
      Json::object({{"image_url", Json::object({{"url", url}, {"detail", "low"}})}});
  const Json image = Json::object({{"type", "image"}, {"image", url}});
  for (const Json& part : {bare, input, untyped, image}) {
    const Answer answer = post(greedy(Json::array({user(Json::array({part, Json(question)}))})));
    EXPECT_EQ(answer.status, 200) << to_text(answer.body);
    EXPECT_EQ(answer.text(), expected);
  }
}

TEST_F(ImageServer, TakesSeveralPicturesOverSeveralTurns) {
  const std::string first = data_url(kDemo + "/images/002.png");
  const std::string second = data_url(kDemo + "/images/016.png");
  const auto turns = [](const std::string& a, const std::string& b) {
    return greedy(Json::array(
        {user(Json::array({text_part("First:"), image_part(a)})),
         Json::object({{"role", "assistant"}, {"content", "A shape."}}),
         user(Json::array({image_part(b), text_part("And what is this?"), image_part(a)}))}));
  };
  const Answer answer = post(turns(first, second));
  EXPECT_EQ(answer.status, 200) << to_text(answer.body);
  EXPECT_EQ(post(turns(first, second)).text(), answer.text()) << "now from the caches";
  const Json no_images = greedy(
      Json::array({user("First:"), Json::object({{"role", "assistant"}, {"content", "A shape."}}),
                   user("And what is this?")}));
  EXPECT_GT(answer.prompt_tokens(), post(no_images).prompt_tokens() + 3 * 40);
}

TEST_F(ImageServer, BudgetsOfARequestDecideItsTokens) {
  const std::string url = data_url(kVision + "images/rgb_640x480.png");
  Json body = ask_about(url, "What is this?");
  const std::int64_t by_default = post(body).prompt_tokens();
  body.set("mm_processor_kwargs", Json::object({{"max_soft_tokens", 70}}));
  EXPECT_EQ(post(body).prompt_tokens(), by_default) << "70 is what processor_config.json says";
  body.set("mm_processor_kwargs", Json::object({{"max_soft_tokens", 140}}));
  const std::int64_t larger = post(body).prompt_tokens();
  // 640 x 480 becomes 9 x 7 soft tokens of 70 and 13 x 10 of 140.
  EXPECT_EQ(larger - by_default, 13 * 10 - 9 * 7);
  for (const Json& value : {Json(71), Json("70"), Json(0)}) {
    body.set("mm_processor_kwargs", Json::object({{"max_soft_tokens", value}}));
    const Answer refused = post(body);
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(refused.param(), "mm_processor_kwargs");
  }
}

TEST_F(ImageServer, TakesPicturesOfEveryShapeAndFormat) {
  for (const char* name :
       {"rgb_1x1.png", "rgb_3x2000.png", "rgb_2000x3.png", "palette_transparent.png", "grey16.png",
        "la.png", "cmyk.jpg", "progressive.jpg", "exif_6.jpg", "lossy.webp", "alpha.webp",
        "animated.gif", "transparent.gif"}) {
    const Answer answer = post(ask_about(data_url(kVision + "images/" + name), "What is this?"));
    EXPECT_EQ(answer.status, 200) << name << " " << to_text(answer.body);
  }
}

TEST_F(ImageServer, FilesComeFromTheAllowedFolderOnly) {
  const std::string root = "file://" + folder_->path().string();
  const std::string question = "Tell me the colour of the shape.";
  EXPECT_EQ(post(ask_about(root + "/open/in.png", question)).text(),
            post(ask_about(data_url(kDemo + "/images/002.png"), question)).text());
  for (const char* path : {"/out.png", "/open/../out.png", "/open/link.png", "/open/missing.png"}) {
    const Answer refused = post(ask_about(root + path, question));
    EXPECT_EQ(refused.status, 400) << path;
    EXPECT_EQ(refused.param(), "messages[0].content[0].image_url.url") << path;
  }
}

TEST_F(ImageServer, NeverConnectsToItsOwnNetwork) {
  LoopbackServer secret([](std::string_view) { return http_ok("secret"); });
  for (const char* host : {"127.0.0.1", "localhost", "127.1", "0x7f000001"}) {
    const Answer refused = post(ask_about(secret.url("/x.png", host), "What is this?"));
    EXPECT_EQ(refused.status, 400) << host;
    EXPECT_EQ(refused.param(), "messages[0].content[0].image_url.url") << host;
  }
  EXPECT_EQ(secret.n_connections(), 0);
}

/// Everything that is wrong with the second image of a message, and the part that says so.
TEST_F(ImageServer, SaysWhatIsWrongAndWhere) {
  const std::string good = data_url(kDemo + "/images/002.png");
  std::vector<std::string> urls = {
      "",
      "x",
      "data:image/png;base64,AAA",
      "data:image/png;base64,####",
      "data:image/png,hello",
      "data:image/png;base64",
      "ftp://example.com/x.png",
      "https://not-allowed.example/x.png",
      "http://nowhere.invalid/x.png",
      "file:///etc/passwd",
      "file:///dev/zero",
      "http://user:word@localhost/x.png",
  };
  for (const char* name :
       {"bad_crc.png", "bomb_header.png", "empty.png", "header_only.jpg", "html.jpg", "svg.png",
        "text.png", "truncated.gif", "truncated.jpg", "truncated.png", "truncated.webp",
        "truncated_header.png", "zero_width.png"}) {
    urls.push_back(data_url(kVision + "bad/" + name));
  }
  for (const std::string& url : urls) {
    const Answer refused = post(greedy(
        Json::array({user(Json::array({image_part(good), text_part("and"), image_part(url)}))})));
    EXPECT_EQ(refused.status, 400) << url.substr(0, 60);
    EXPECT_EQ(refused.param(), "messages[0].content[2].image_url.url") << url.substr(0, 60);
  }
}

TEST_F(ImageServer, RefusesTooManyPicturesAndOtherMedia) {
  const std::string url = data_url(kDemo + "/images/002.png");
  Json parts = Json::array();
  for (int i = 0; i < 4; ++i) parts.push_back(image_part(url));
  const Answer many = post(greedy(Json::array({user(parts)})));
  EXPECT_EQ(many.status, 400);
  EXPECT_EQ(many.body.find("error")->find("message")->as_string(),
            "At most 3 image(s) may be provided in one prompt.");
  EXPECT_EQ(many.param(), "messages[0].content[3].image_url.url");
  for (const char* type :
       {"audio", "input_audio", "audio_url", "video", "video_url", "image_embeds"}) {
    const Answer refused = post(
        greedy(Json::array({user(Json::array({Json::object({{"type", type}, {type, "x"}})}))})));
    EXPECT_EQ(refused.status, 400) << type;
    EXPECT_EQ(refused.param(), "messages") << type;
    EXPECT_NE(refused.body.find("error")->find("message")->as_string().find("image_url"),
              std::string::npos)
        << type;
  }
}

TEST_F(ImageServer, RefusesTextThatSpellsAMediaToken) {
  for (const char* text :
       {"<|image|>", "a <|image|> b", "<|image>", "<image|>", "<|audio|>", "<|video|>"}) {
    const Answer chat = post(greedy(Json::array({user(text)})));
    EXPECT_EQ(chat.status, 400) << text;
    EXPECT_EQ(chat.param(), "messages") << text;
    const Answer plain =
        post(Json::object({{"prompt", text}, {"max_tokens", 1}}), "/v1/completions");
    EXPECT_EQ(plain.status, 400) << text;
    EXPECT_EQ(plain.param(), "prompt") << text;
  }
}

TEST_F(ImageServer, BadPicturesHarmNobodyElse) {
  const Json text_only =
      greedy(Json::array({user("What does the flag --allowed-local-media-path do?")}));
  const std::string expected = post(text_only).text();
  ASSERT_FALSE(expected.empty());
  std::vector<std::string> urls = {"http://nowhere.invalid/x.png"};
  for (const char* name : {"bomb_real.png", "bomb_header.png", "truncated.png"})
    urls.push_back(data_url(kVision + "bad/" + name));
  std::vector<std::jthread> bad;
  for (const std::string& url : urls) {
    bad.emplace_back([&url] {
      for (int i = 0; i < 3; ++i) EXPECT_EQ(post(ask_about(url, "What is this?")).status, 400);
    });
  }
  for (int i = 0; i < 6; ++i) EXPECT_EQ(post(text_only).text(), expected);
}

TEST_F(ImageServer, TheBytesDecideNotTheMediaType) {
  const std::string bytes = data_url(kDemo + "/images/002.png");
  const std::string base64 = bytes.substr(bytes.find(','));
  const std::string question = "Tell me the colour of the shape.";
  const std::string expected = post(ask_about(bytes, question)).text();
  for (const char* type : {"data:image/jpeg;base64", "data:text/html;base64", "data:;base64",
                           "DATA:application/octet-stream;BASE64"}) {
    const Answer answer = post(ask_about(type + base64, question));
    EXPECT_EQ(answer.status, 200) << type;
    EXPECT_EQ(answer.text(), expected) << type;
  }
}

/// A server that redirects is not asked either: its own address is refused before it can.
TEST_F(ImageServer, ARedirectToLoopbackIsNeverReached) {
  LoopbackServer secret([](std::string_view) { return http_ok("secret"); });
  LoopbackServer door(
      [&](std::string_view) { return http_redirect(secret.url("/admin", "localhost")); });
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const Answer refused = post(ask_about(door.url("/x.png", host), "What is this?"));
    EXPECT_EQ(refused.status, 400) << host;
    EXPECT_EQ(refused.param(), "messages[0].content[0].image_url.url") << host;
    EXPECT_EQ(to_text(refused.body).find("secret"), std::string::npos) << host;
  }
  EXPECT_EQ(door.n_connections() + secret.n_connections(), 0);
}

/// What the headers declare is refused before memory is taken for it.
TEST_F(ImageServer, BombsTakeNoMemory) {
  post(ask_about(data_url(kDemo + "/images/002.png"), "What is this?"));
  const std::int64_t before = served_->process().peak_memory();
  ASSERT_GT(before, 0);
  for (int i = 0; i < 4; ++i) {
    for (const char* name : {"bomb_real.png", "bomb_header.png"}) {
      const Answer refused = post(ask_about(data_url(kVision + "bad/" + name), "What is this?"));
      EXPECT_EQ(refused.status, 400) << name;
      EXPECT_EQ(refused.param(), "messages[0].content[0].image_url.url") << name;
    }
  }
  EXPECT_LT(served_->process().peak_memory() - before, std::int64_t{64} << 20);
}

TEST_F(ImageServer, AClientThatLeavesWhileItsPictureIsFetchedIsForgotten) {
  {
    HttpClient client(served_->port());
    client.send(HttpClient::request("POST", "/v1/chat/completions",
                                    to_text(ask_about("http://nowhere.invalid/x.png", "?"))));
  }
  EXPECT_EQ(post(greedy(Json::array({user("Hello")}))).status, 200);
}

/// The picture begins in the first step's room and would end in the second's.
TEST(ImageChunks, APictureIsNeverCut) {
  constexpr std::int64_t kStep = 1121;  // the smallest step that holds any picture
  const Served small({"--max-num-seqs", "1", "--max-num-batched-tokens", "1"}, demo_model());
  const Served large({"--max-num-batched-tokens", "4096"}, demo_model());
  const std::string url = data_url(kDemo + "/images/002.png");
  const std::int64_t n_image = post_to(large, ask_about(url, "x")).prompt_tokens() -
                               post_to(large, greedy(Json::array({user("x")}))).prompt_tokens();
  const auto words = [](std::int64_t n) {
    std::string text = "x";
    for (std::int64_t i = 0; i < n; ++i) text += " x";
    return text;
  };
  const auto tokens_of = [&](const std::string& text) {
    return post_to(large, greedy(Json::array({user(text)}))).prompt_tokens();
  };
  const std::int64_t per_word = (tokens_of(words(11)) - tokens_of(words(1))) / 10;
  ASSERT_GT(per_word, 0);
  const std::string filler = words((kStep - n_image / 2 - tokens_of(words(0))) / per_word);
  const std::int64_t n_before = tokens_of(filler);
  ASSERT_LT(n_before, kStep);
  ASSERT_GT(n_before + n_image, kStep + 10);
  const Json body = greedy(Json::array({user(Json::array(
      {text_part(filler), image_part(url), text_part("Tell me the colour of the shape.")}))}));
  const Answer one = post_to(large, body), cut = post_to(small, body);
  EXPECT_EQ(one.status, 200);
  EXPECT_EQ(one.text(), cut.text());
}

TEST(ImagelessServer, SaysThatImagesAreOff) {
  const Served served({"--language-model-only"}, demo_model());
  const Answer refused = post_to(served, ask_about(data_url(kDemo + "/images/002.png"), "?"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.param(), "messages[0].content[0].image_url.url");
}

TEST(ImagelessServer, RefusesAFolderThatIsNone) {
  Process process({GEM8_BINARY, "serve", kDemo, "--port", "0", "--allowed-local-media-path",
                   "/nowhere/at/all"});
  EXPECT_EQ(process.wait(), 2);
  EXPECT_TRUE(process.says("gem8: error: --allowed-local-media-path"));
}

}  // namespace
}  // namespace gem8::testing

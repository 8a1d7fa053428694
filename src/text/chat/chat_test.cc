#include <gtest/gtest.h>

#include "tests/support/json_lines.h"
#include "tests/support/shared_folder.h"
#include "text/chat/chat_template.h"

namespace gem8 {
namespace {

Json json(std::string_view text) {
  auto parsed = parse_json(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed ? *parsed : Json();
}

std::string normal(std::string_view messages) {
  const auto out = normalized_messages(json(messages));
  return out ? to_text(*out) : std::string(code_name(out.error().code));
}

TEST(NormalizeMessages, BringsClientsToTheFormTheTemplateExpects) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}])",
       R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":1}}}]}])"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":""}}]}])",
       R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]}])"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]},{"role":"tool","content":{"t":4}}])",
       R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}},"id":"call_0"}]},{"role":"tool","content":"{\"t\": 4}","tool_call_id":"call_0"}])"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"x"},"",{"text":"y"}]}])",
       R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_call_id":"a","content":"x\n\ny"}])"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"x"},{"type":"image"}]}])",
       R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"x"},{"type":"image"}]}])"},
      {R"([{"role":"assistant","content":"x","tool_calls":[]}])",
       R"([{"role":"assistant","content":"x"}])"},
      {R"([{"role":"assistant","content":"x","reasoning_content":"r"}])",
       R"([{"role":"assistant","content":"x","reasoning_content":"r","reasoning":"r"}])"},
      {R"([{"role":"user","content":"a"},{"role":"developer","content":"b"}])",
       R"([{"role":"user","content":"a"},{"role":"system","content":"b"}])"},
      {R"([{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"refusal","refusal":"b"}]}])",
       R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","refusal":"b","text":"b"}]}])"},
      {R"([{"role":"assistant","content":"look","reasoning":"r","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]}])",
       R"([{"role":"assistant","content":"look","reasoning":"r","reasoning_content":"r"},{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]}])"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]}])",
       "invalid_argument"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])",
       "invalid_argument"},
      {R"([{"role":"assistant","tool_calls":[{"function":{}}]}])", "invalid_argument"},
      {R"([{"role":"user","content":"a"},{"role":"tool","content":"b"}])", "invalid_argument"},
      {R"([{"content":"a"}])", "invalid_argument"},
      {R"(["a"])", "invalid_argument"},
      {R"({})", "invalid_argument"},
  };
  for (const auto& [messages, wanted] : cases) EXPECT_EQ(normal(messages), wanted) << messages;
}

TEST(NormalizeTools, WrapsAndCompletes) {
  const auto flat = normalized_tools(json(
      R"([{"type":"function","name":"f","description":null,"parameters":{"properties":{}}}])"));
  ASSERT_TRUE(flat.has_value());
  EXPECT_EQ(
      to_text(*flat),
      R"([{"type":"function","function":{"name":"f","parameters":{"properties":{},"type":"object"}}}])");
  EXPECT_EQ(normalized_tools(json("[{}]")).error().code, Code::kInvalidArgument);
  EXPECT_TRUE(normalized_tools(json("[]"))->is_null());
}

TEST(RenderChat, RendersARequest) {
  const auto chat = ChatTemplate::parse(
      "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if "
      "add_generation_prompt %}model:{% endif %}"
      "{{ 'T' if enable_thinking }}");
  ASSERT_TRUE(chat.has_value());
  EXPECT_EQ(*render_chat(*chat, json(R"({"messages":[{"role":"user","content":"a"}]})")),
            "<bos>user:a;model:");
  EXPECT_EQ(
      *render_chat(
          *chat,
          json(
              R"({"messages":[],"add_generation_prompt":false,"chat_template_kwargs":{"enable_thinking":true}})")),
      "<bos>T");
  EXPECT_EQ(*render_chat(*chat, json(R"({"messages":[],"reasoning_effort":"low"})")),
            "<bos>model:T");
  for (const char* request : {"{}", R"({"messages":[],"add_generation_prompt":1})",
                              R"({"messages":[],"chat_template_kwargs":{"messages":[]}})"}) {
    const auto text = render_chat(*chat, json(request));
    ASSERT_FALSE(text.has_value()) << request;
    EXPECT_EQ(text.error().code, Code::kInvalidArgument) << request;
  }
}

TEST(RenderChat, ReproducesTheConversationsThatNeedNoChange) {
  const auto shared = testing::shared_folder();
  if (!shared) GTEST_SKIP() << "the published chat templates are not here (GEM8_SHARED)";
  const auto source = read_text_file(*shared / "data/templates/gemma4-large.jinja");
  ASSERT_TRUE(source.has_value());
  const auto chat = ChatTemplate::parse(*source);
  ASSERT_TRUE(chat.has_value());
  int n_compared = 0;
  for (const Json& row : testing::read_json_lines(std::filesystem::path(GEM8_TEST_DATA) /
                                                  "golden/chat/renders.jsonl")) {
    if (row.find("template")->as_string() != "large" || !row.find("error")->is_null()) continue;
    const auto messages = normalized_messages(*row.find("messages"));
    const auto tools = normalized_tools(*row.find("tools"));
    if (!messages || !(*messages == *row.find("messages")) || !tools ||
        !(*tools == *row.find("tools")))
      continue;
    Json kwargs = row.find("kwargs")->is_null() ? Json::object() : *row.find("kwargs");
    Json request = Json::object(
        {{"messages", *messages}, {"tools", *tools}, {"add_generation_prompt", false}});
    if (const Json* generates = kwargs.find("add_generation_prompt"))
      request.set("add_generation_prompt", *generates);
    std::erase_if(kwargs.as_object(),
                  [](const JsonMember& member) { return member.key == "add_generation_prompt"; });
    request.set("chat_template_kwargs", kwargs);
    const auto text = render_chat(*chat, request);
    ASSERT_TRUE(text.has_value()) << text.error().text();
    EXPECT_EQ(*text, row.find("rendered")->as_string()) << row.find("name")->as_string();
    ++n_compared;
  }
  EXPECT_GT(n_compared, 150);
}

TEST(ImageParts, AreFoundInOrder) {
  EXPECT_EQ(
      image_parts(
          json(
              R"([{"role":"user","content":[{"type":"image","n":1},{"type":"text"},{"type":"image_url","n":2}]},{"role":"user","content":"x"}])"))
          .size(),
      2u);
}

}  // namespace
}  // namespace gem8

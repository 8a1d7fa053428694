#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "tests/support/json_lines.h"
#include "tests/support/shared_folder.h"
#include "text/jinja/template.h"

namespace gem8::jinja {
namespace {

namespace fs = std::filesystem;

fs::path golden() {
  return fs::path(GEM8_TEST_DATA) / "golden/chat";
}

Outcome<std::string> render(std::string_view source, const Json& context,
                            const RenderOptions& options = {}) {
  const auto parsed = Template::parse(source);
  if (!parsed) return std::unexpected(parsed.error());
  return parsed->render(Value::from_json(context), options);
}

RenderOptions options_at(const Json* now) {
  RenderOptions options;
  if (now == nullptr) return options;
  std::tm time{};
  EXPECT_EQ(std::sscanf(now->as_string().c_str(), "%d-%d-%dT%d:%d:%d", &time.tm_year, &time.tm_mon,
                        &time.tm_mday, &time.tm_hour, &time.tm_min, &time.tm_sec),
            6);
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  time.tm_isdst = -1;
  std::mktime(&time);  // fills in the weekday and the day of the year
  options.now = [time] { return time; };
  return options;
}

class JinjaGolden : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, JinjaGolden, ::testing::Values("jinja.jsonl", "constructs.jsonl"));

TEST_P(JinjaGolden, ReproducesEverySnippet) {
  for (const Json& row : testing::read_json_lines(golden() / GetParam())) {
    const std::string& source = row.find("template")->as_string();
    const auto rendered = render(source, *row.find("context"), options_at(row.find("now")));
    const Json& error = *row.find("error");
    const std::string name = row.find("name")->as_string() + ": " + source;
    if (error.is_null()) {
      ASSERT_TRUE(row.find("output")->is_string()) << name;
      EXPECT_TRUE(rendered.has_value()) << name << "\n" << rendered.error().message;
      if (rendered) {
        EXPECT_EQ(*rendered, row.find("output")->as_string()) << name;
      }
    } else {
      EXPECT_FALSE(rendered.has_value()) << name << "\n" << *rendered;
      if (!rendered) {
        EXPECT_EQ(class_name(rendered.error().error), error.find("class")->as_string())
            << name << "\n"
            << rendered.error().message;
      }
    }
  }
}

TEST(Jinja, ReproducesEveryConversation) {
  const auto shared = testing::shared_folder();
  if (!shared) GTEST_SKIP() << "the published chat templates are not here (GEM8_SHARED)";
  std::vector<std::pair<std::string, Template>> templates;
  for (const auto& [name, path] : {std::pair("large", "data/templates/gemma4-large.jinja"),
                                   std::pair("small", "data/templates/gemma4-small.jinja"),
                                   std::pair("gguf", "golden/chat/gemma4-gguf.jinja")}) {
    auto parsed = Template::parse(*read_text_file(*shared / path));
    ASSERT_TRUE(parsed.has_value())
        << name << ": " << parsed.error().message << " in line " << parsed.error().line;
    templates.emplace_back(name, std::move(*parsed));
  }
  for (const Json& row : testing::read_json_lines(golden() / "renders.jsonl")) {
    Json context = *row.find("kwargs");
    if (context.is_null()) context = Json::object();
    context.set("messages", *row.find("messages"));
    context.set("bos_token", "<bos>");
    context.set("tools", *row.find("tools"));
    const std::string& name = row.find("template")->as_string();
    const auto chosen =
        std::ranges::find(templates, name, [](const auto& pair) { return pair.first; });
    ASSERT_NE(chosen, templates.end()) << name;
    const auto rendered = chosen->second.render(Value::from_json(context));
    const std::string label = name + " " + row.find("name")->as_string();
    if (row.find("error")->is_null()) {
      EXPECT_TRUE(rendered.has_value()) << label << "\n" << rendered.error().message;
      if (rendered) {
        EXPECT_EQ(*rendered, row.find("rendered")->as_string()) << label;
      }
    } else {
      EXPECT_FALSE(rendered.has_value()) << label << "\n" << *rendered;
    }
  }
}

TEST(Jinja, RefusesWhatItWouldRenderDifferently) {
  const char* cases[] = {
      "{{ [1] | map('string') }}",    // an address in memory
      "{{ [[1] | select('odd')] }}",  // the same, inside a list
      "{{ 'a'.upper }}",              // the same
      "{% macro m() %}{% endmacro %}{{ m }}",
      "{{ '\u00b2'.isdigit() }}",    // a digit that is not decimal
      "{{ '\u4e00'.isnumeric() }}",  // an ideograph that is a number
      "{{ [1, 2] | truncate(5) }}",
      "{{ 1 | indent }}",
      "{{ [[1], [1]] | unique | list }}",
      "{{ {'a': 1} | xmlattr }}",
      "{{ 'a'.translate({97: 'b'}) }}",
  };
  for (const char* source : cases) {
    const auto rendered = render(source, Json::object());
    EXPECT_FALSE(rendered.has_value()) << source << " renders as " << *rendered;
  }
}

TEST(Jinja, NamesTheLineOfAnError) {
  const std::pair<const char*, int> cases[] = {{"a\nb\n{{ 1 + }}", 3},
                                               {"a\n{% if true %}\n{{ x.y.z }}{% endif %}", 3},
                                               {"\n\n{{ 'a' | nofilter }}", 3}};
  for (const auto& [source, line] : cases) {
    const auto rendered = render(source, Json::object());
    ASSERT_FALSE(rendered.has_value()) << source;
    EXPECT_EQ(rendered.error().line, line) << source << ": " << rendered.error().message;
  }
}

TEST(Jinja, EndsWhateverItIsGiven) {
  const char* cases[] = {
      "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
      "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}{{ ns.x | length }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% "
      "endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}{{ ns.x }}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{{ 'x' * 10 ** 12 }}",
      "{{ 9 ** 9 ** 9 }}",
      "{{ '%999999999d' % 1 }}",
      "{{ 'a' | indent(999999999) }}",
      "{{ 'a' | center(999999999) }}",
      "{{ '{:>999999999}'.format(1) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
  };
  for (const char* source : cases) {
    const auto rendered = render(source, Json::object());
    ASSERT_FALSE(rendered.has_value()) << source;
    EXPECT_EQ(rendered.error().error, ErrorClass::kLimit)
        << source << ": " << rendered.error().message;
  }
  for (const char* opener :
       {"(", "[", "{{", "not ", "-", "{% if 1 %}", "a[", "1+(", "{% for x in y %}", "{1:"}) {
    std::string source = "{{ ";
    if (std::string_view(opener).starts_with("{%")) source.clear();
    for (int i = 0; i < 100000; ++i) source += opener;
    EXPECT_FALSE(Template::parse(source).has_value()) << opener;
  }
}

TEST(Jinja, NamespacesMayHoldEachOther) {
  const auto rendered = render(
      "{% set a = namespace() %}{% set b = namespace(o=a) %}{% set a.o = b %}{{ a.o.o.o is defined "
      "}}",
      Json::object());
  ASSERT_TRUE(rendered.has_value()) << rendered.error().message;
  EXPECT_EQ(*rendered, "True");
}

}  // namespace
}  // namespace gem8::jinja

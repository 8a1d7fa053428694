// Any template renders or is refused, within its limits.
#include <cstdint>
#include <string_view>

#include "text/jinja/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = gem8::jinja::Template::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  static const gem8::Json context = *gem8::parse_json(
      R"({"messages":[{"role":"user","content":"a\nb"},{"role":"tool","content":[{"type":"text","text":"x"}]}],"x":[1,2.5,null,true],"d":{"b":1,"A":"z"},"s":"te xt"})");
  gem8::jinja::RenderOptions options;
  options.limits.max_steps = 200'000;
  options.limits.max_output_bytes = 1 << 20;
  options.limits.max_depth = 300;  // sanitizers make stack frames large
  options.limits.max_macro_depth = 20;
  static_cast<void>(parsed->render(gem8::jinja::Value::from_json(context), options));
  return 0;
}

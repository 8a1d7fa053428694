#include "text/jinja/template.h"

#include "text/jinja/render/renderer.h"
#include "text/jinja/syntax/parser.h"

namespace gem8::jinja {

struct Template::Tree {
  Block body;
};

Template::Template(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Outcome<Template> Template::parse(std::string_view source) {
  GEM8_TRY(Block body, parse_template(source));
  auto tree = std::make_unique<Tree>();
  tree->body = std::move(body);
  return Template(std::move(tree));
}

Outcome<std::string> Template::render(const Value& context, const RenderOptions& options) const {
  Renderer renderer(context, options);
  return renderer.run(tree_->body);
}

}  // namespace gem8::jinja

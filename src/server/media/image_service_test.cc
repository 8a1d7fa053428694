#include "server/media/image_service.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>

#include "tests/support/loopback_server.h"

namespace gem8 {
namespace {

using Prepared = Result<std::vector<PreparedImage>>;

MediaLoader loader_for(std::string host) {
  MediaSources sources;
  sources.remote.allowed_hosts = {std::move(host)};
  sources.remote.is_public = [](const IpAddress&) { return true; };
  sources.remote.timeout = std::chrono::milliseconds(300);
  auto loader = MediaLoader::create(std::move(sources));
  EXPECT_TRUE(loader.has_value());
  return std::move(*loader);
}

std::future<Prepared> submit(ImageService& service, std::string url) {
  auto promise = std::make_shared<std::promise<Prepared>>();
  service.submit({{std::move(url), "field"}}, std::nullopt,
                 [promise](Prepared result) { promise->set_value(std::move(result)); });
  return promise->get_future();
}

TEST(ImageService, ASlowHostHoldsUpNobodyElse) {
  testing::LoopbackServer silent([](std::string_view) { return std::string(); });
  ImageService service(loader_for("127.0.0.1"), {}, 2);
  auto slow = submit(service, silent.url("/"));
  auto bad = submit(service, "data:;base64,AAAA");
  EXPECT_EQ(bad.get().error().code, Code::kInvalidArgument);
  EXPECT_EQ(slow.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_EQ(slow.get().error().context, "field");
}

TEST(ImageService, EveryoneHearsWhenItEnds) {
  testing::LoopbackServer silent([](std::string_view) { return std::string(); });
  std::future<Prepared> running, waiting;
  {
    ImageService service(loader_for("127.0.0.1"), {}, 1);
    running = submit(service, silent.url("/"));
    while (silent.n_connections() == 0) std::this_thread::yield();
    waiting = submit(service, "data:;base64,AAAA");
  }
  EXPECT_EQ(running.get().error().code, Code::kInvalidArgument);
  EXPECT_EQ(waiting.get().error().code, Code::kCancelled);
}

}  // namespace
}  // namespace gem8

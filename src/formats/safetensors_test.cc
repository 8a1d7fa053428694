#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "formats/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string length_prefix(std::uint64_t n) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes;
}

/// A file of this header, however wrong, and `data_bytes` zero bytes.
std::string container(std::string_view header, std::size_t data_bytes) {
  return length_prefix(header.size()) + std::string(header) + std::string(data_bytes, '\0');
}

struct BadFile {
  std::string name;
  std::string bytes;
  ContainerFault fault;
  std::string tensor;
  std::string says;  ///< found and wanted
};

class BadContainer : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadContainer, IsReportedAndRefused) {
  const BadFile& bad = GetParam();
  const TemporaryFolder folder;
  const auto path = folder.write("bad.safetensors", bad.bytes);

  const Result<SafetensorsReport> report = inspect_safetensors(path);
  ASSERT_TRUE(report) << report.error().text();
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_EQ(report->findings[0].fault, bad.fault) << report->findings[0].message;
  EXPECT_EQ(report->findings[0].tensor, bad.tensor);
  EXPECT_THAT(report->findings[0].message, HasSubstr(bad.says));

  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code,
            bad.fault == ContainerFault::kUnknownDType ? Code::kUnsupported : Code::kCorrupt);
  EXPECT_THAT(file.error().text(), HasSubstr("bad.safetensors"));
  EXPECT_THAT(file.error().text(), HasSubstr(bad.tensor));
}

std::vector<BadFile> bad_files() {
  using enum ContainerFault;
  const auto one = [](std::string_view entry, std::size_t data) {
    return container("{\"a\":" + std::string(entry) + "}", data);
  };
  const std::string deep = "{\"a\":" + std::string(2000, '[') + std::string(2000, ']') + "}";
  std::string dims = "1";
  for (int i = 0; i < 32; ++i) dims += ",1";
  return {
      {"empty", "", kTooShort, "", "file of 0 bytes"},
      {"seven_bytes", "1234567", kTooShort, "", "file of 7 bytes"},
      {"length_beyond_file", length_prefix(100) + "{}", kHeaderLength, "",
       "100 bytes in a file that has 2"},
      {"length_beyond_limit", length_prefix(100'000'001) + "{}", kHeaderLength, "",
       "allows 100000000"},
      {"length_2_to_63", length_prefix(std::uint64_t{1} << 63) + "{}", kHeaderLength, "", "allows"},
      {"length_zero", container("", 4), kHeaderSyntax, "", "empty header"},
      {"not_json", container("{\"a\":", 0), kHeaderSyntax, "", "invalid JSON"},
      {"bad_utf8", container("{\"a\xff\":1}", 0), kHeaderSyntax, "", "invalid JSON"},
      {"starts_with_space", container(" {}", 0), kHeaderSyntax, "", "0x20"},
      {"array", container("[]", 0), kHeaderSyntax, "", "0x5b"},
      {"deep", container(deep, 0), kHeaderSyntax, "", "invalid JSON"},
      {"text_after_object", container("{} x", 0), kHeaderSyntax, "", "after the value"},
      {"metadata_no_object", container(R"({"__metadata__":[]})", 0), kMetadata, "", "is array"},
      {"metadata_number", container(R"({"__metadata__":{"format":1}})", 0), kMetadata, "",
       "'format' is integer"},
      {"entry_no_object", one("[]", 0), kEntry, "a", "entry is array"},
      {"dtype_missing", one(R"({"shape":[1],"data_offsets":[0,1]})", 1), kEntry, "a",
       "'dtype' is missing"},
      {"dtype_number", one(R"({"dtype":1,"shape":[1],"data_offsets":[0,1]})", 1), kEntry, "a",
       "wanted a string"},
      {"dtype_twice", one(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1),
       kEntry, "a", "twice"},
      {"shape_missing", one(R"({"dtype":"U8","data_offsets":[0,1]})", 1), kEntry, "a",
       "'shape' is missing"},
      {"shape_string", one(R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})", 1), kEntry, "a",
       "wanted integers"},
      {"shape_fraction", one(R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})", 1), kEntry,
       "a", "wanted integers"},
      {"offsets_missing", one(R"({"dtype":"U8","shape":[1]})", 1), kEntry, "a",
       "'data_offsets' is missing"},
      {"offsets_three", one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})", 1), kEntry, "a",
       "two integers"},
      {"dtype_unknown", one(R"({"dtype":"F8","shape":[1],"data_offsets":[0,1]})", 1), kUnknownDType,
       "a", "'F8'"},
      {"shape_negative", one(R"({"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]})", 1), kShape,
       "a", "negative"},
      {"shape_overflows",
       one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0), kShape,
       "a", "too large"},
      {"shape_overflows_beside_zero",
       one(R"({"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]})", 0), kShape,
       "a", "too large"},
      {"shape_beyond_int64",
       one(R"({"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]})", 1), kShape, "a",
       "2^63"},
      {"too_many_dimensions",
       one("{\"dtype\":\"U8\",\"shape\":[" + dims + "],\"data_offsets\":[0,1]}", 1), kShape, "a",
       "33 dimensions"},
      {"offsets_reversed", one(R"({"dtype":"U8","shape":[1],"data_offsets":[2,1]})", 4), kOffsets,
       "a", "[2, 1]"},
      {"offsets_negative", one(R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})", 4), kOffsets,
       "a", "[-1, 0]"},
      {"offsets_beyond_int64",
       one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]})", 4), kOffsets,
       "a", "<= 4"},
      {"truncated", one(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})", 5), kOffsets, "a",
       "<= 5"},
      {"size_mismatch", one(R"({"dtype":"BF16","shape":[2,3],"data_offsets":[0,11]})", 11), kSize,
       "a", "BF16 [2, 3] needs 12"},
      {"overlap",
       container(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
           6),
       kOverlap, "b", "inside 'a'"},
      {"hole_at_start", one(R"({"dtype":"U8","shape":[1],"data_offsets":[3,4]})", 4), kHole, "a",
       "[0, 3)"},
      {"hole_between",
       container(
           R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
           9),
       kHole, "b", "[4, 5)"},
      {"trailing", one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})", 9), kTrailing, "",
       "9 bytes of data, the tensors cover 1"},
      {"no_tensor_but_data", container("{}", 1), kTrailing, "", "cover 0"},
  };
}

INSTANTIATE_TEST_SUITE_P(Safetensors, BadContainer, ::testing::ValuesIn(bad_files()),
                         [](const auto& test) { return test.param.name; });

TEST(Safetensors, NameTwiceIsAFinding) {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "twice.safetensors", container(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                     R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                     2));
  const Result<SafetensorsReport> report = inspect_safetensors(path);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_EQ(report->findings[0].fault, ContainerFault::kDuplicate);
  EXPECT_EQ(report->tensors.size(), 1u);
  EXPECT_THAT(report->names, ElementsAre("a"));
  EXPECT_EQ(SafetensorsFile::open(path).error().code, Code::kCorrupt);
}

TEST(Safetensors, ReportsEveryFaultAndKeepsWhatIsSound) {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "bad.safetensors", container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                   R"("b":{"dtype":"F8","shape":[4],"data_offsets":[4,8]},)"
                                   R"("c":{"dtype":"U8","shape":[3],"data_offsets":[8,12]}})",
                                   12));
  const Result<SafetensorsReport> report = inspect_safetensors(path);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->findings.size(), 2u);
  EXPECT_EQ(report->findings[0].fault, ContainerFault::kUnknownDType);
  EXPECT_EQ(report->findings[1].fault, ContainerFault::kSize);
  ASSERT_EQ(report->tensors.size(), 1u);
  EXPECT_EQ(report->tensors[0].name, "a");
  EXPECT_THAT(report->names, ElementsAre("a", "b", "c"));
}

TEST(Safetensors, MissingFileAndFolder) {
  const TemporaryFolder folder;
  EXPECT_EQ(SafetensorsFile::open(folder.path() / "none").error().code, Code::kNotFound);
  EXPECT_EQ(SafetensorsFile::open(folder.path()).error().code, Code::kInvalidArgument);
}

TEST(Safetensors, ReadsScalarsEmptyTensorsPaddingAndUnknownMembers) {
  const TemporaryFolder folder;
  std::string bytes = container(R"({"z":{"dtype":"F32","shape":[],"data_offsets":[0,4],"note":1},)"
                                R"("e":{"dtype":"BF16","shape":[3,0],"data_offsets":[4,4]},)"
                                R"("__metadata__":{"format":"pt"}}   )",
                                4);
  const float value = 2.5f;
  std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
  const Result<SafetensorsFile> file = SafetensorsFile::open(folder.write("x.safetensors", bytes));
  ASSERT_TRUE(file) << file.error().text();
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].name, "e");
  EXPECT_THAT(file->tensors()[0].shape, ElementsAre(3, 0));
  EXPECT_EQ(file->tensors()[0].n_elements(), 0u);
  const TensorInfo* scalar = file->find("z");
  ASSERT_NE(scalar, nullptr);
  EXPECT_TRUE(scalar->shape.empty());
  EXPECT_EQ(scalar->n_elements(), 1u);
  float read = 0.0f;
  std::memcpy(&read, scalar->bytes.data(), 4);
  EXPECT_EQ(read, 2.5f);
  EXPECT_THAT(file->metadata(), ElementsAre(std::pair("format", "pt")));
  EXPECT_EQ(file->find("zz"), nullptr);
}

TEST(SafetensorsWriter, RoundTripsInPieces) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "w.safetensors";
  std::vector<TensorSpec> specs = {{"codes", DType::kF8E4M3, {3, 5}},
                                   {"scale", DType::kF32, {}},
                                   {"nothing", DType::kBF16, {0, 7}},
                                   {"norm", DType::kBF16, {4}}};
  sort_for_alignment(specs);
  EXPECT_EQ(specs[0].name, "scale");
  EXPECT_EQ(specs[1].name, "norm");
  EXPECT_EQ(specs[2].name, "nothing");
  EXPECT_EQ(specs[3].name, "codes");
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, specs);
  ASSERT_TRUE(writer) << writer.error().text();
  EXPECT_EQ(writer->data_bytes(), 15u + 4u + 8u);
  std::vector<std::byte> bytes(27);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  const std::span<const std::byte> all(bytes);
  ASSERT_TRUE(writer->append("scale", all.subspan(0, 4)));
  EXPECT_EQ(writer->append("codes", all.subspan(4, 1)).error().code, Code::kInvalidArgument);
  EXPECT_EQ(writer->append("norm", all.subspan(4, 9)).error().code, Code::kInvalidArgument);
  ASSERT_TRUE(writer->append("norm", all.subspan(4, 3)));
  ASSERT_TRUE(writer->append("norm", all.subspan(7, 5)));
  EXPECT_EQ(writer->finish().error().code, Code::kInvalidArgument);
  ASSERT_TRUE(writer->append("codes", all.subspan(12)));
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->finish());
  EXPECT_EQ(writer->finish().error().code, Code::kInvalidArgument);

  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_THAT(file->metadata(), ElementsAre(std::pair("format", "pt")));
  EXPECT_TRUE(std::ranges::equal(file->find("scale")->bytes, all.subspan(0, 4)));
  EXPECT_TRUE(std::ranges::equal(file->find("norm")->bytes, all.subspan(4, 8)));
  EXPECT_TRUE(std::ranges::equal(file->find("codes")->bytes, all.subspan(12)));
  EXPECT_THAT(file->find("nothing")->shape, ElementsAre(0, 7));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file->find("scale")->bytes.data()) % 8, 0u);
}

TEST(SafetensorsWriter, LargeTensorsAndManySmallOnes) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "w.safetensors";
  std::vector<TensorSpec> specs = {{"big", DType::kU8, {3'000'000}}};
  for (int i = 0; i < 3000; ++i) specs.push_back({"small." + std::to_string(i), DType::kI32, {}});
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, specs, {});
  ASSERT_TRUE(writer);
  std::vector<std::byte> big(3'000'000, std::byte{7});
  big.back() = std::byte{9};
  ASSERT_TRUE(writer->append("big", big));
  for (std::int32_t i = 0; i < 3000; ++i) {
    ASSERT_TRUE(writer->append("small." + std::to_string(i), std::as_bytes(std::span(&i, 1))));
  }
  ASSERT_TRUE(writer->finish());
  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_TRUE(std::ranges::equal(file->find("big")->bytes, big));
  for (const std::int32_t i : {0, 1, 1500, 2999}) {
    std::int32_t read = -1;
    std::memcpy(&read, file->find("small." + std::to_string(i))->bytes.data(), 4);
    EXPECT_EQ(read, i);
  }
}

TEST(SafetensorsWriter, LeavesNothingBehindUnfinished) {
  const TemporaryFolder folder;
  {
    Result<SafetensorsWriter> writer =
        SafetensorsWriter::create(folder.path() / "w", {{"a", DType::kU8, {1}}});
    ASSERT_TRUE(writer);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, Refusals) {
  const TemporaryFolder folder;
  const auto code = [&](std::vector<TensorSpec> specs, const std::filesystem::path& path) {
    const Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(specs));
    return writer ? std::optional<Code>() : writer.error().code;
  };
  const auto path = folder.path() / "w";
  EXPECT_EQ(code({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}, path), Code::kInvalidArgument);
  EXPECT_EQ(code({{"__metadata__", DType::kU8, {1}}}, path), Code::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kU8, {-1}}}, path), Code::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kF64, {1LL << 62}}}, path), Code::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kU8, {1}}}, folder.path() / "none" / "w"), Code::kNotFound);
}

TEST(SafetensorsWriter, FullDiskIsExhausted) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const TemporaryFolder folder;
  // The temporary neighbour's name is known: it is made to be a link to the full device.
  const auto path = folder.path() / "w.safetensors";
  std::filesystem::create_symlink("/dev/full",
                                  path.string() + ".tmp-" + std::to_string(::getpid()));
  Result<SafetensorsWriter> writer =
      SafetensorsWriter::create(path, {{"a", DType::kU8, {4'000'000}}});
  ASSERT_TRUE(writer);
  const Status status = writer->append("a", std::vector<std::byte>(4'000'000));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kExhausted);
}

}  // namespace
}  // namespace gem8

// Runs methods of an ExecuTorch program on arrays in NumPy files, without Python and torch.
//
//   runner PROGRAM FOLDER THREADS METHOD...
//
// A method METHOD takes FOLDER/METHOD/0/input0.npy, input1.npy and so on, writes output0.npy and so on beside them, and
// goes on with FOLDER/METHOD/1, 2 and so on.
// Arrays are float32 or int64, C-contiguous, little-endian, format version 1.0 of NumPy (numpy.lib.format).

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

// Part of the library, but its header is not shipped with the package.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
} // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::extension::TensorPtr;
using executorch::runtime::EValue;

constexpr char kMagic[] = "\x93NUMPY\x01\x00";
constexpr size_t kMagicSize = 8;
constexpr size_t kPrefixSize = kMagicSize + 2;

[[noreturn]] void fail(const std::string& message) {
  throw std::runtime_error(message);
}

// Text between two marks of a header.
std::string between(const std::string& header, const std::string& before, const std::string& after) {
  const size_t begin = header.find(before);
  if (begin == std::string::npos) {
    fail("the header has no " + before);
  }
  const size_t end = header.find(after, begin + before.size());
  if (end == std::string::npos) {
    fail("the header does not end");
  }
  return header.substr(begin + before.size(), end - begin - before.size());
}

TensorPtr read_array(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  if (file.size() < kPrefixSize || file.compare(0, kMagicSize, kMagic, kMagicSize) != 0) {
    fail("is no NumPy file of version 1.0");
  }
  const auto byte = [&file](size_t index) { return static_cast<size_t>(static_cast<unsigned char>(file[index])); };
  const size_t length = byte(kMagicSize) | byte(kMagicSize + 1) << 8;
  const std::string header = file.substr(kPrefixSize, length);
  if (between(header, "'fortran_order': ", ",") != "False") {
    fail("is not C-contiguous");
  }
  const std::string type = between(header, "'descr': '", "'");
  if (type != "<f4" && type != "<i8") {
    fail("holds " + type + ", not float32 or int64");
  }
  std::vector<SizesType> sizes;
  size_t count = 1;
  const std::string shape = between(header, "'shape': (", ")");
  for (const char* at = shape.c_str(); *at != '\0';) {
    char* end = nullptr;
    const long size = std::strtol(at, &end, 10);
    if (end == at) {
      fail("has a strange shape (" + shape + ")");
    }
    sizes.push_back(static_cast<SizesType>(size));
    count *= static_cast<size_t>(size);
    at = end + std::strspn(end, ", ");
  }
  const size_t width = type == "<f4" ? sizeof(float) : sizeof(int64_t);
  const size_t start = kPrefixSize + length;
  if (file.size() < start || file.size() - start != count * width) {
    fail("is cut short or too long");
  }
  std::vector<uint8_t> data(file.begin() + static_cast<std::ptrdiff_t>(start), file.end());
  return executorch::extension::make_tensor_ptr(
      sizes, std::move(data), type == "<f4" ? ScalarType::Float : ScalarType::Long);
}

void write_array(const std::filesystem::path& path, const executorch::aten::Tensor& tensor) {
  if (tensor.scalar_type() != ScalarType::Float) {
    fail("the output is not float32");
  }
  std::string shape;
  for (const auto size : tensor.sizes()) {
    shape += std::to_string(size) + ", ";
  }
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + "), }";
  // Data starts at a multiple of 64 bytes.
  header.append(63 - (kPrefixSize + header.size()) % 64, ' ');
  header += '\n';
  const char length[] = {static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  std::ofstream stream(path, std::ios::binary);
  stream.write(kMagic, kMagicSize);
  stream.write(length, sizeof(length));
  stream.write(header.data(), static_cast<std::streamsize>(header.size()));
  stream.write(static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
  if (!stream) {
    fail("cannot be written");
  }
}

void run(executorch::extension::Module& module, const std::filesystem::path& folder, const std::string& method) {
  std::vector<TensorPtr> arrays;
  std::vector<EValue> inputs;
  for (size_t index = 0;; ++index) {
    const auto path = folder / ("input" + std::to_string(index) + ".npy");
    if (!std::filesystem::exists(path)) {
      break;
    }
    try {
      arrays.push_back(read_array(path));
    } catch (const std::exception& error) {
      fail(path.filename().string() + " " + error.what());
    }
    inputs.emplace_back(arrays.back());
  }
  const auto outputs = module.execute(method, inputs);
  if (!outputs.ok()) {
    fail("ExecuTorch error " + std::to_string(static_cast<int>(outputs.error())));
  }
  for (size_t index = 0; index < outputs->size(); ++index) {
    write_array(folder / ("output" + std::to_string(index) + ".npy"), (*outputs)[index].toTensor());
  }
}

} // namespace

int main(int count, char** words) {
  if (count < 5) {
    std::cerr << "usage: runner PROGRAM FOLDER THREADS METHOD...\n";
    return 2;
  }
  std::string what = words[1];
  try {
    const long threads = std::strtol(words[3], nullptr, 10);
    if (threads < 1 || threads > 64) {
      fail("threads are 1 to 64");
    }
    // Before anything is loaded: what is loaded keeps a pointer to the pool.
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(static_cast<uint32_t>(threads));
    executorch::extension::Module module(words[1]);
    const auto loaded = module.load(executorch::runtime::Program::Verification::InternalConsistency);
    if (loaded != executorch::runtime::Error::Ok) {
      fail("was refused with ExecuTorch error " + std::to_string(static_cast<int>(loaded)));
    }
    for (int index = 4; index < count; ++index) {
      what = words[index];
      const auto requests = std::filesystem::path(words[2]) / what;
      for (size_t request = 0; request == 0 || std::filesystem::exists(requests / std::to_string(request)); ++request) {
        run(module, requests / std::to_string(request), what);
      }
    }
  } catch (const std::exception& error) {
    std::cerr << what << ": " << error.what() << "\n";
    return 1;
  }
  return 0;
}

// Runs a fuzz target over saved inputs, without a fuzzing engine: the unit-test mode of every
// target in this folder.
//
//   TARGET_replay SEED_DIRECTORY [--mutations N]
//
// Each file of the directory is run as it is, cut short at every length (of a file over 4 KiB, at
// 4096 lengths spread over it), and with N seeded random changes (default 200). A finding is a
// crash, a sanitizer's report or an abort in the target; the case is named on stderr before it.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Present only in a build with a sanitizer.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr size_t kMaxCuts = 4096;
char current_case[512] = "before the first";

void PrintCurrentCase() { std::fprintf(stderr, "fuzz case: %s\n", current_case); }

void HandleCrash(int signal) {
  PrintCurrentCase();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void RunCase(const std::string& name, const char* what, size_t number, const std::string& input) {
  std::snprintf(current_case, sizeof(current_case), "%s, %s %zu", name.c_str(), what, number);
  // A heap copy of the exact size, so that AddressSanitizer sees a read past the end.
  const std::vector<uint8_t> copy(input.begin(), input.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

std::string Mutate(std::string input, std::mt19937_64& random) {
  const int num_changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < num_changes; ++i) {
    const size_t at = input.empty() ? 0 : random() % input.size();
    const char byte = static_cast<char>(random());
    switch (input.empty() ? 0 : random() % 4) {
      case 0:
        input.insert(at, 1, byte);
        break;
      case 1:
        input[at] = byte;
        break;
      case 2:
        input[at] = static_cast<char>(input[at] ^ (1 << (random() % 8)));
        break;
      default:
        input.erase(at, 1 + random() % 4);
        break;
    }
  }
  return input;
}

size_t RunFile(const std::filesystem::path& path, size_t num_mutations) {
  std::ifstream file(path, std::ios::binary);
  const std::string input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const std::string name = path.filename().string();
  RunCase(name, "whole", input.size(), input);
  const size_t num_cuts = std::min(input.size(), kMaxCuts);
  for (size_t i = 0; i < num_cuts; ++i) {
    const size_t length = i * input.size() / num_cuts;
    RunCase(name, "cut at", length, input.substr(0, length));
  }
  std::mt19937_64 random(input.size());
  for (size_t i = 0; i < num_mutations; ++i) RunCase(name, "mutation", i, Mutate(input, random));
  return 1 + num_cuts + num_mutations;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && !(argc == 4 && std::string(argv[2]) == "--mutations")) {
    std::fprintf(stderr, "usage: %s SEED_DIRECTORY [--mutations N]\n", argv[0]);
    return 64;
  }
  const size_t num_mutations = argc == 4 ? std::strtoul(argv[3], nullptr, 10) : 200;
  // Sanitizers have handlers of their own, which must stay in place.
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(PrintCurrentCase);
  } else {
    for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS}) std::signal(signal, HandleCrash);
  }

  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  if (paths.empty()) {
    std::fprintf(stderr, "no seeds in %s\n", argv[1]);
    return 1;
  }
  std::sort(paths.begin(), paths.end());
  size_t num_cases = 0;
  for (const auto& path : paths) num_cases += RunFile(path, num_mutations);
  std::printf("%zu seeds, %zu cases\n", paths.size(), num_cases);
  return 0;
}

// Loads a library while stderr goes to a file in memory, and hands back what was written.
//
// TensorFlow 2.21's static initialisers log two lines ("oneDNN custom operations are on …") through absl before
// anybody can set a log level. The caller prints what is left when the known lines are taken out, so that nothing
// else is lost. Knows nothing of TensorFlow: it has to be loaded before it.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include <node_api.h>

namespace {

std::string ReadAll(FILE* file) {
  std::string text;
  char buffer[4096];
  rewind(file);
  while (size_t count = fread(buffer, 1, sizeof buffer, file)) text.append(buffer, count);
  return text;
}

// load(path: string): string. Throws what the dynamic linker says.
napi_value Load(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  size_t length = 0;
  if (count != 1 || napi_get_value_string_utf8(env, argument, nullptr, 0, &length) != napi_ok) {
    napi_throw_type_error(env, nullptr, "load: expects a path");
    return nullptr;
  }
  std::string path(length + 1, '\0');
  napi_get_value_string_utf8(env, argument, &path[0], path.size(), &length);

  fflush(stderr);
  FILE* file = tmpfile();
  const int saved = dup(2);
  const bool captured = file != nullptr && saved >= 0 && dup2(fileno(file), 2) >= 0;
  void* library = dlopen(path.c_str(), RTLD_LAZY);
  const std::string problem = library == nullptr ? dlerror() : "";
  fflush(stderr);
  if (captured) dup2(saved, 2);
  if (saved >= 0) close(saved);
  const std::string text = captured ? ReadAll(file) : "";
  if (file != nullptr) fclose(file);

  if (library == nullptr) {
    napi_throw_error(env, nullptr, problem.c_str());
    return nullptr;
  }
  napi_value result;
  napi_create_string_utf8(env, text.data(), text.size(), &result);
  return result;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value load;
  napi_create_function(env, "load", NAPI_AUTO_LENGTH, Load, nullptr, &load);
  napi_set_named_property(env, exports, "load", load);
  return exports;
}

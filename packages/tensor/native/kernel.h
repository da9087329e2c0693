/**
 * @file What a kernel sees: its inputs, outputs, attributes and a way to run work on every core.
 *
 * Kernels are plain functions `void run(Context&)` described by a `Kernel` row (names and signatures as in
 * docs/architecture/operations.md). They include no TensorFlow header: `bridge.cc` alone turns the rows into TensorFlow
 * operators, so a kernel compiles in a second and could be driven by anything that implements `Context`.
 *
 * A kernel checks its inputs with `require` before it starts parallel work; a failed check becomes a TensorFlow
 * InvalidArgument error in JavaScript. Nothing may be thrown inside parallel work.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_KERNEL_H_
#define MOEBIUS_KERNEL_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

namespace moebius {

/// A failed input check: *subject: expectation, got value*.
class BadInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline std::string text(const char* value) { return value; }
inline std::string text(const std::string& value) { return value; }
template <typename T>
inline std::string text(T value) {
  return std::to_string(value);
}

/// Throws BadInput with the concatenation of `parts` unless `condition` holds.
template <typename... Parts>
inline void require(bool condition, Parts... parts) {
  if (__builtin_expect(condition, 1)) return;
  std::string message;
  (message.append(text(parts)), ...);
  throw BadInput(message);
}

/// A borrowed, read-only, row-major tensor of rank ≤ 4.
template <typename T>
struct View {
  const T* data = nullptr;
  int rank = 0;
  int64_t dims[4] = {1, 1, 1, 1};
  int64_t size = 0;
};
using Floats = View<float>;
using Ints = View<int32_t>;

/// A variable that the kernel may write: its tensor is locked and unshared until the kernel returns.
struct Variable {
  float* data = nullptr;
  int64_t size = 0;
};

class Context {
 public:
  virtual ~Context() = default;
  virtual Floats floats(int input) = 0;
  virtual Ints ints(int input) = 0;
  /// Locks the variables behind these resource inputs (in one order for everybody) and makes each safe to write:
  /// one that somebody still reads gets its own copy first.
  virtual std::vector<Variable> variables(const std::vector<int>& inputs) = 0;
  /// A fresh float output (contents undefined).
  virtual float* output(int index, std::initializer_list<int64_t> dims) = 0;
  virtual int32_t* intOutput(int index, std::initializer_list<int64_t> dims) = 0;
  /// Work memory of this call (contents undefined), freed when the kernel returns.
  virtual float* temporary(int64_t count) = 0;
  virtual int64_t integer(const char* attribute) = 0;
  virtual float number(const char* attribute) = 0;
  virtual const std::string& string(const char* attribute) = 0;
  virtual int threads() = 0;
  /// Runs `work` once on some other thread, soon.
  virtual void schedule(std::function<void()> work) = 0;
};

/// One operator: `inputs`, `outputs` and `attributes` in TensorFlow's notation ("x: float", "gate: E * float").
struct Kernel {
  const char* name;
  std::vector<const char*> inputs;
  std::vector<const char*> attributes;
  std::vector<const char*> outputs;
  void (*run)(Context&);
};

/// The float input `index` with these dims; -1 accepts any extent. The error names `name`.
Floats floatInput(Context& context, int index, const char* name, std::initializer_list<int64_t> dims);
Ints intInput(Context& context, int index, const char* name, std::initializer_list<int64_t> dims);

/// Every value of `ids` lies in [low, high).
void requireRange(const Ints& ids, const char* name, int64_t low, int64_t high);

/// `offsets` starts at 0, never falls and ends at `total`.
void requireOffsets(const Ints& offsets, const char* name, int64_t total);

/// Runs fn(0) … fn(tasks-1), each once, on every thread of the pool including the caller. Threads take the next task
/// when free; which thread runs which task is not fixed, so a task must own what it writes.
void parallel(Context& context, int64_t tasks, const std::function<void(int64_t)>& fn);

/// Splits [0, count) into ranges of at least `grain` and runs fn(begin, end) on each. The cut depends on the count and
/// the grain only when it matters for results (see callers); ranges are disjoint and cover everything.
void parallelRanges(Context& context, int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& fn);

}  // namespace moebius

#endif  // MOEBIUS_KERNEL_H_

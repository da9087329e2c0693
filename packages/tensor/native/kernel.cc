/**
 * @file Input checks and the parallel loop shared by all kernels (see kernel.h).
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include "kernel.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

namespace moebius {

namespace {

template <typename T>
void requireDims(const View<T>& view, const char* name, std::initializer_list<int64_t> dims) {
  bool same = view.rank == static_cast<int>(dims.size());
  int i = 0;
  for (int64_t dim : dims) {
    if (!same) break;
    same = dim < 0 || view.dims[i] == dim;
    ++i;
  }
  if (__builtin_expect(same, 1)) return;
  std::string expected, got;
  for (int64_t dim : dims) expected += (expected.empty() ? "" : ",") + (dim < 0 ? std::string("?") : text(dim));
  for (int d = 0; d < view.rank; ++d) got += (d ? "," : "") + text(view.dims[d]);
  throw BadInput(std::string(name) + ": must have shape [" + expected + "], got [" + got + "]");
}

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Shared by the caller and the helpers; a helper that comes late finds no task left and touches nothing else.
struct Loop {
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  int64_t tasks = 0;
  const std::function<void(int64_t)>* fn = nullptr;

  void work() {
    for (;;) {
      const int64_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      (*fn)(task);
      done.fetch_add(1, std::memory_order_release);
    }
  }
};

}  // namespace

Floats floatInput(Context& context, int index, const char* name, std::initializer_list<int64_t> dims) {
  const Floats view = context.floats(index);
  requireDims(view, name, dims);
  return view;
}

Ints intInput(Context& context, int index, const char* name, std::initializer_list<int64_t> dims) {
  const Ints view = context.ints(index);
  requireDims(view, name, dims);
  return view;
}

void requireRange(const Ints& ids, const char* name, int64_t low, int64_t high) {
  for (int64_t i = 0; i < ids.size; ++i) {
    require(ids.data[i] >= low && ids.data[i] < high, name, "[", i, "]: must be in [", low, ", ", high, "), got ",
            ids.data[i]);
  }
}

void requireOffsets(const Ints& offsets, const char* name, int64_t total) {
  require(offsets.size > 0 && offsets.data[0] == 0, name, "[0]: must be 0");
  for (int64_t i = 1; i < offsets.size; ++i) {
    require(offsets.data[i] >= offsets.data[i - 1], name, "[", i, "]: must not fall, got ", offsets.data[i], " after ",
            offsets.data[i - 1]);
  }
  require(offsets.data[offsets.size - 1] == total, name, ": must end at ", total, ", got ",
          offsets.data[offsets.size - 1]);
}

void parallel(Context& context, int64_t tasks, const std::function<void(int64_t)>& fn) {
  const int64_t helpers = std::min<int64_t>(context.threads(), tasks) - 1;
  if (helpers <= 0) {
    for (int64_t task = 0; task < tasks; ++task) fn(task);
    return;
  }
  auto loop = std::make_shared<Loop>();
  loop->tasks = tasks;
  loop->fn = &fn;
  for (int64_t i = 0; i < helpers; ++i) context.schedule([loop] { loop->work(); });
  loop->work();
  for (int64_t spins = 0; loop->done.load(std::memory_order_acquire) < tasks; ++spins) {
    if (spins < 20000) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void parallelRanges(Context& context, int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& fn) {
  if (count <= 0) return;
  const int64_t wanted = std::max<int64_t>(1, std::min<int64_t>(context.threads() * 4, count / std::max<int64_t>(1, grain)));
  const int64_t step = (count + wanted - 1) / wanted;
  const int64_t tasks = (count + step - 1) / step;
  if (tasks == 1) return fn(0, count);
  parallel(context, tasks, [&](int64_t task) { fn(task * step, std::min(count, (task + 1) * step)); });
}

}  // namespace moebius

/**
 * @file Per-thread work memory that is kept between calls.
 *
 * A fresh large `malloc` costs a page fault per 4 KB, which is as dear as the arithmetic of a small layer. Each thread
 * keeps one growing buffer per purpose; contents never survive from one use to the next.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_SCRATCH_H_
#define MOEBIUS_SCRATCH_H_

#include <cstdint>
#include <cstdlib>
#include <new>

namespace moebius {

class Scratch {
 public:
  /// Purposes: two live buffers of one thread never share a purpose.
  enum Purpose { kPackedRight, kPackedLeft, kFirst, kSecond, kThird, kFourth, kFifth, kPurposes };

  static Scratch& ofThisThread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  ~Scratch() {
    for (Buffer& buffer : buffers_) std::free(buffer.data);
  }

  /// At least `count` floats, 64-byte aligned; valid until the next `get` of the same purpose on this thread.
  float* get(Purpose purpose, int64_t count) {
    Buffer& buffer = buffers_[purpose];
    if (buffer.capacity < count) {
      std::free(buffer.data);
      buffer.capacity = 0;
      const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + 4095) / 4096 * 4096;
      buffer.data = static_cast<float*>(std::aligned_alloc(64, bytes));
      if (buffer.data == nullptr) throw std::bad_alloc();
      buffer.capacity = static_cast<int64_t>(bytes / sizeof(float));
    }
    return buffer.data;
  }

 private:
  struct Buffer {
    float* data = nullptr;
    int64_t capacity = 0;
  };
  Buffer buffers_[kPurposes];
};

}  // namespace moebius

#endif  // MOEBIUS_SCRATCH_H_

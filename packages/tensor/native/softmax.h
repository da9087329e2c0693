/**
 * @file The parts of a softmax over one row, shared by cross-entropy, attention and gates.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_SOFTMAX_H_
#define MOEBIUS_SOFTMAX_H_

#include "vector.h"

namespace moebius {

struct SoftmaxSum {
  float maximum;
  float sum;
};

inline float maximumOf(const float* x, int64_t count) {
  if (count < kWidth) {
    float best = x[0];
    for (int64_t i = 1; i < count; ++i) best = x[i] > best ? x[i] : best;
    return best;
  }
  Vector best = load(x);
  int64_t i = kWidth;
  for (; i + kWidth <= count; i += kWidth) best = maximum(load(x + i), best);
  best = maximum(load(x + count - kWidth), best);
  return maximum(best);
}

/// to[i] = e^(from[i] − shift); returns their sum. `to` may be `from`.
inline float exponentialsShifted(const float* from, float* to, float shift, int64_t count) {
  const Vector back = broadcast(shift);
  Vector a = {}, b = {};
  int64_t i = 0;
  for (; i + 2 * kWidth <= count; i += 2 * kWidth) {
    const Vector one = exponential(load(from + i) - back), two = exponential(load(from + i + kWidth) - back);
    store(to + i, one);
    store(to + i + kWidth, two);
    a += one;
    b += two;
  }
  for (; i < count; i += kWidth) {
    const int64_t rest = count - i < kWidth ? count - i : kWidth;
    const Vector value = exponential(loadPart(from + i, rest) - back);
    storePart(to + i, value, rest);
    Vector kept = {};
    std::memcpy(&kept, &value, static_cast<size_t>(rest) * sizeof(float));
    a += kept;
  }
  return sum(a + b);
}

/// to[i] = e^(from[i] − maximum), the maximum and the sum. `to` may be `from`; count > 0.
inline SoftmaxSum exponentials(const float* from, float* to, int64_t count) {
  const float top = maximumOf(from, count);
  return {top, exponentialsShifted(from, to, top, count)};
}

inline void scale(float* x, float factor, int64_t count) {
  const Vector by = broadcast(factor);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(x + i, load(x + i) * by);
  for (; i < count; ++i) x[i] *= factor;
}

}  // namespace moebius

#endif  // MOEBIUS_SOFTMAX_H_

/**
 * @file One row of RMS normalisation and one head of rotary embedding, shared by training and decoding kernels.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_NORM_H_
#define MOEBIUS_NORM_H_

#include <cmath>
#include <cstdint>

#include "vector.h"

namespace moebius {

/// 1 / sqrt(mean(x²) + epsilon) of one row.
inline float inverseRms(const float* x, int64_t count, float epsilon) {
  return 1.0f / std::sqrt(dot(x, x, count) / static_cast<float>(count) + epsilon);
}

/// y = x · inv · weight. `y` may be `x`.
inline void normalise(const float* x, const float* weight, float inv, float* y, int64_t count) {
  const Vector scale = broadcast(inv);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(y + i, load(x + i) * scale * load(weight + i));
  for (; i < count; ++i) y[i] = x[i] * inv * weight[i];
}

/// Rotates pairs (i, i + half) by the angle of a position; `direction` −1 is the inverse (and the gradient). In place.
inline void rotate(float* value, const float* cosine, const float* sine, int64_t half, float direction) {
  const Vector sign = broadcast(direction);
  int64_t i = 0;
  for (; i + kWidth <= half; i += kWidth) {
    const Vector a = load(value + i), b = load(value + half + i), c = load(cosine + i), s = sign * load(sine + i);
    store(value + i, a * c - b * s);
    store(value + half + i, b * c + a * s);
  }
  for (; i < half; ++i) {
    const float a = value[i], b = value[half + i], c = cosine[i], s = direction * sine[i];
    value[i] = a * c - b * s;
    value[half + i] = b * c + a * s;
  }
}

}  // namespace moebius

#endif  // MOEBIUS_NORM_H_

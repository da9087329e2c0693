/**
 * @file Products with few rows (decoding): weights are streamed once, straight from memory, never packed.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_FEW_ROWS_H_
#define MOEBIUS_FEW_ROWS_H_

#include <algorithm>

#include "vector.h"

namespace moebius {

/// Up to this many rows the products below beat packing the weights.
constexpr int64_t kFewRows = 8;

namespace few_rows {

/// out[r][c] = x[r] · w[c] for R rows and C weight rows.
template <int R, int C>
inline void dots(const float* const* x, const float* w, int64_t wStride, int64_t depth, float* out, int64_t outStride) {
  Vector acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = Vector{};
  }
  int64_t k = 0;
  for (; k + kWidth <= depth; k += kWidth) {
    Vector right[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) right[c] = load(w + c * wStride + k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector left = load(x[r] + k);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[r][c] += left * right[c];
    }
  }
  if (k < depth) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector left = loadPart(x[r] + k, depth - k);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[r][c] += left * loadPart(w + c * wStride + k, depth - k);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) out[r * outStride + c] = sum(acc[r][c]);
  }
}

template <int R>
inline void dotsOfRows(const float* const* x, const float* w, int64_t wStride, int64_t columns, int64_t depth,
                       float* out, int64_t outStride) {
  constexpr int C = 4;
  int64_t c = 0;
  for (; c + C <= columns; c += C) dots<R, C>(x, w + c * wStride, wStride, depth, out + c, outStride);
  for (; c < columns; ++c) dots<R, 1>(x, w + c * wStride, wStride, depth, out + c, outStride);
}

}  // namespace few_rows

/// out[m][c] = x[m] · w[c]: out[M,C] = X · Wᵀ with W row-major [C, depth].
inline void multiplyFewRowsTransposed(const float* const* x, int64_t count, const float* w, int64_t wStride,
                                      int64_t columns, int64_t depth, float* out, int64_t outStride) {
  for (int64_t m = 0; m < count;) {
    const float* const* from = x + m;
    float* to = out + m * outStride;
    switch (std::min<int64_t>(4, count - m)) {
      case 1: few_rows::dotsOfRows<1>(from, w, wStride, columns, depth, to, outStride); m += 1; break;
      case 2: few_rows::dotsOfRows<2>(from, w, wStride, columns, depth, to, outStride); m += 2; break;
      case 3: few_rows::dotsOfRows<3>(from, w, wStride, columns, depth, to, outStride); m += 3; break;
      default: few_rows::dotsOfRows<4>(from, w, wStride, columns, depth, to, outStride); m += 4; break;
    }
  }
}

/// out[m] = sum over k of a[m][k] * w[k] (rows of `columns` floats): out[M,columns] = A · W, W streamed row by row.
inline void multiplyFewRows(const float* a, int64_t aStride, int64_t count, const float* w, int64_t wStride,
                            int64_t columns, int64_t depth, float* out, int64_t outStride) {
  for (int64_t m = 0; m < count; ++m) std::fill_n(out + m * outStride, columns, 0.0f);
  constexpr int64_t kStep = 4;
  for (int64_t k = 0; k < depth; k += kStep) {
    const int64_t steps = std::min(kStep, depth - k);
    for (int64_t m = 0; m < count; ++m) {
      const float* scale = a + m * aStride + k;
      float* y = out + m * outStride;
      if (steps < kStep) {
        for (int64_t s = 0; s < steps; ++s) addScaled(y, w + (k + s) * wStride, scale[s], columns);
        continue;
      }
      const float* w0 = w + k * wStride;
      const float* w1 = w0 + wStride;
      const float* w2 = w1 + wStride;
      const float* w3 = w2 + wStride;
      const Vector s0 = broadcast(scale[0]), s1 = broadcast(scale[1]), s2 = broadcast(scale[2]), s3 = broadcast(scale[3]);
      int64_t c = 0;
      for (; c + kWidth <= columns; c += kWidth) {
        const Vector one = s0 * load(w0 + c) + s1 * load(w1 + c);
        const Vector two = s2 * load(w2 + c) + s3 * load(w3 + c);
        store(y + c, load(y + c) + (one + two));
      }
      for (; c < columns; ++c) y[c] += (scale[0] * w0[c] + scale[1] * w1[c]) + (scale[2] * w2[c] + scale[3] * w3[c]);
    }
  }
}

}  // namespace moebius

#endif  // MOEBIUS_FEW_ROWS_H_

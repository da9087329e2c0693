/**
 * @file Attention of few or many new rows over a key/value cache, shared by attention.cc and decode.cc.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_ATTENTION_H_
#define MOEBIUS_ATTENTION_H_

#include <algorithm>
#include <cstdint>

#include "kernel.h"

namespace moebius {

/// Sizes of an attention call: T = batch · S query rows of Z = heads · C, keys of Y = kvHeads · C.
struct Geometry {
  int64_t T, batch, S, heads, kvHeads, C, Z, Y;
  float scale;
};

/// A cache and who may see what: query row i of sequence b sees slot j < lengths[b] when j ≤ positions[b·n + i]; with a
/// mask, the last n slots (the tail) are seen where the mask is not 0 instead.
struct CacheView {
  const float* k;
  const float* v;
  int64_t capacity, n, tail;
  const int32_t* positions;
  const int32_t* lengths;
  const float* mask;

  int64_t visible(int64_t b, int64_t i) const {
    const int64_t length = lengths[b];
    return mask ? length : std::min<int64_t>(length, positions[b * n + i] + 1);
  }
};

/// y[T,Z] = attention of q[T,Z] over the cache, on every core.
void attendCache(Context& context, const Geometry& geometry, const CacheView& cache, const float* q, float* y);

}  // namespace moebius

#endif  // MOEBIUS_ATTENTION_H_

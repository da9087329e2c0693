/**
 * @file Causal grouped-query attention on rows: full sequences with gradient, and few rows against a cache.
 *
 * Queries, keys and values stay in their [T, heads · C] layout; products read them with strides. A task takes a block of
 * queries of one head, so only queries × keys scores exist at a time. Forward saves log-sum-exp, backward recomputes:
 *   P = exp(scale · q kᵀ − lse), dV = Pᵀ dO, dS = P (dO Vᵀ − sum(dO · O)) · scale, dQ = dS K, dK = dSᵀ Q.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "gemm.h"
#include "kernel.h"
#include "scratch.h"
#include "softmax.h"

namespace moebius {

namespace {

Geometry readGeometry(Context& context, const Floats& q) {
  Geometry g = {};
  g.heads = context.integer("heads");
  g.kvHeads = context.integer("kv_heads");
  g.scale = context.number("scale");
  g.T = q.dims[0];
  g.Z = q.dims[1];
  require(g.heads > 0 && g.Z % g.heads == 0, "q: width must be divisible by heads ", g.heads, ", got ", g.Z);
  require(g.kvHeads > 0 && g.heads % g.kvHeads == 0, "heads: must be divisible by kv_heads ", g.kvHeads, ", got ",
          g.heads);
  g.C = g.Z / g.heads;
  g.Y = g.C * g.kvHeads;
  return g;
}

void splitBatch(Geometry& g, int64_t batch) {
  require(batch > 0 && g.T % batch == 0, "q: rows must be divisible by batch ", batch, ", got ", g.T);
  g.batch = batch;
  g.S = g.T / batch;
}

/// Queries per task: scores of a block stay near 256 KB, whatever the number of keys.
int64_t queryBlock(int64_t keys) {
  const int64_t count = 65536 / std::max<int64_t>(1, keys) / kTileRows * kTileRows;
  return std::max<int64_t>(24, std::min<int64_t>(60, count));
}

/// Turns row `scores` (`visible` of `width` columns count) into unnormalised probabilities; returns maximum and sum.
SoftmaxSum softmaxRow(float* scores, int64_t visible, int64_t width) {
  const SoftmaxSum total = exponentials(scores, scores, visible);
  std::fill(scores + visible, scores + width, 0.0f);
  return total;
}

/// Queries [begin, end) of sequence b, head h.
void attendBlock(const Geometry& g, const float* q, const float* k, const float* v, int64_t b, int64_t h, int64_t begin,
                 int64_t end, float* y, float* lse) {
  const int64_t keys = end, count = end - begin, kv = h / (g.heads / g.kvHeads), first = b * g.S;
  float* scores = Scratch::ofThisThread().get(Scratch::kFirst, count * keys);
  const float* keyRows = k + first * g.Y + kv * g.C;
  const float* valueRows = v + first * g.Y + kv * g.C;
  multiply(count, keys, g.C, rows(q + (first + begin) * g.Z + h * g.C, g.Z), transposed(keyRows, g.Y),
           {scores, keys, false, g.scale});
  float* out = y + (first + begin) * g.Z + h * g.C;
  float* sums = Scratch::ofThisThread().get(Scratch::kSecond, count);
  for (int64_t i = 0; i < count; ++i) {
    const SoftmaxSum total = softmaxRow(scores + i * keys, begin + i + 1, keys);
    sums[i] = total.sum;
    lse[(first + begin + i) * g.heads + h] = total.maximum + std::log(total.sum);
  }
  multiply(count, g.C, keys, rows(scores, keys), rows(valueRows, g.Y), {out, g.Z});
  for (int64_t i = 0; i < count; ++i) scale(out + i * g.Z, 1.0f / sums[i], g.C);
}

void attention(Context& context) {
  const Floats q = floatInput(context, 0, "q", {-1, -1});
  Geometry g = readGeometry(context, q);
  splitBatch(g, context.integer("batch"));
  const Floats k = floatInput(context, 1, "k", {g.T, g.Y});
  const Floats v = floatInput(context, 2, "v", {g.T, g.Y});
  float* y = context.output(0, {g.T, g.Z});
  float* lse = context.output(1, {g.T, g.heads});
  const int64_t step = queryBlock(g.S), blocks = (g.S + step - 1) / step;
  parallel(context, g.batch * g.heads * blocks, [&](int64_t task) {
    const int64_t block = blocks - 1 - task % blocks, h = task / blocks % g.heads, b = task / blocks / g.heads;
    attendBlock(g, q.data, k.data, v.data, b, h, block * step, std::min(g.S, (block + 1) * step), y, lse);
  });
}

struct AttentionTensors {
  const float *q, *k, *v, *y, *lse, *dy;
  float *dq, *dk, *dv;
};

/// The gradient of queries [begin, end) of one head, added to dk and dv.
void attendBlockBackward(const Geometry& g, const AttentionTensors& t, int64_t b, int64_t h, int64_t begin,
                         int64_t end) {
  const int64_t keys = end, count = end - begin, kv = h / (g.heads / g.kvHeads), first = b * g.S;
  const int64_t queryAt = (first + begin) * g.Z + h * g.C, keyAt = first * g.Y + kv * g.C;
  Scratch& scratch = Scratch::ofThisThread();
  float* p = scratch.get(Scratch::kFirst, count * keys);
  float* ds = scratch.get(Scratch::kSecond, count * keys);
  multiply(count, keys, g.C, rows(t.q + queryAt, g.Z), transposed(t.k + keyAt, g.Y), {p, keys, false, g.scale});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t visible = begin + i + 1;
    float* row = p + i * keys;
    exponentialsShifted(row, row, t.lse[(first + begin + i) * g.heads + h], visible);
    std::fill(row + visible, row + keys, 0.0f);
  }
  multiply(keys, g.C, count, transposed(p, keys), rows(t.dy + queryAt, g.Z), {t.dv + keyAt, g.Y, true});
  multiply(count, keys, g.C, rows(t.dy + queryAt, g.Z), transposed(t.v + keyAt, g.Y), {ds, keys});
  for (int64_t i = 0; i < count; ++i) {
    const float* row = p + i * keys;
    float* slope = ds + i * keys;
    const Vector delta = broadcast(dot(t.dy + queryAt + i * g.Z, t.y + queryAt + i * g.Z, g.C));
    const Vector factor = broadcast(g.scale);
    int64_t j = 0;
    for (; j + kWidth <= keys; j += kWidth) store(slope + j, load(row + j) * (load(slope + j) - delta) * factor);
    for (; j < keys; ++j) slope[j] = row[j] * (slope[j] - delta[0]) * g.scale;
  }
  multiply(count, g.C, keys, rows(ds, keys), rows(t.k + keyAt, g.Y), {t.dq + queryAt, g.Z});
  multiply(keys, g.C, count, transposed(ds, keys), rows(t.q + queryAt, g.Z), {t.dk + keyAt, g.Y, true});
}

void attentionGrad(Context& context) {
  const Floats q = floatInput(context, 0, "q", {-1, -1});
  Geometry g = readGeometry(context, q);
  splitBatch(g, context.integer("batch"));
  AttentionTensors t = {};
  t.q = q.data;
  t.k = floatInput(context, 1, "k", {g.T, g.Y}).data;
  t.v = floatInput(context, 2, "v", {g.T, g.Y}).data;
  t.y = floatInput(context, 3, "y", {g.T, g.Z}).data;
  t.lse = floatInput(context, 4, "lse", {g.T, g.heads}).data;
  t.dy = floatInput(context, 5, "dy", {g.T, g.Z}).data;
  t.dq = context.output(0, {g.T, g.Z});
  t.dk = context.output(1, {g.T, g.Y});
  t.dv = context.output(2, {g.T, g.Y});
  const int64_t step = queryBlock(g.S), group = g.heads / g.kvHeads;
  // One task owns a key head of a sequence, so its sums over queries and over the group have one fixed order.
  parallel(context, g.batch * g.kvHeads, [&](int64_t task) {
    const int64_t b = task / g.kvHeads, kv = task % g.kvHeads;
    for (int64_t s = 0; s < g.S; ++s) {
      const int64_t at = (b * g.S + s) * g.Y + kv * g.C;
      std::fill_n(t.dk + at, g.C, 0.0f);
      std::fill_n(t.dv + at, g.C, 0.0f);
    }
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      for (int64_t begin = 0; begin < g.S; begin += step) {
        attendBlockBackward(g, t, b, h, begin, std::min(g.S, begin + step));
      }
    }
  });
}

/// With a mask: hides tail slots that it forbids to row i, and slots between the row's position and the tail.
void applyTailMask(const CacheView& cache, int64_t b, int64_t i, float* scores) {
  if (cache.mask == nullptr) return;
  const int64_t start = cache.lengths[b] - cache.tail;
  for (int64_t j = cache.positions[b * cache.n + i] + int64_t{1}; j < start; ++j) scores[j] = -__builtin_inff();
  for (int64_t j = 0; j < cache.tail; ++j) {
    if (cache.mask[i * cache.tail + j] == 0.0f) scores[start + j] = -__builtin_inff();
  }
}

/// Queries [begin, end) of sequence b, all heads of key head kv.
void attendCacheBlock(const Geometry& g, const CacheView& cache, const float* q, float* y, int64_t b, int64_t kv,
                      int64_t begin, int64_t end) {
  const int64_t group = g.heads / g.kvHeads;
  const float* k = cache.k + b * cache.capacity * g.Y + kv * g.C;
  const float* v = cache.v + b * cache.capacity * g.Y + kv * g.C;
  int64_t keys = 0;
  for (int64_t i = begin; i < end; ++i) keys = std::max(keys, cache.visible(b, i));
  const int64_t count = end - begin;
  float* scores = Scratch::ofThisThread().get(Scratch::kFirst, count * keys);
  for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
    const int64_t at = (b * cache.n + begin) * g.Z + h * g.C;
    if (count > 4) {
      multiply(count, keys, g.C, rows(q + at, g.Z), transposed(k, g.Y), {scores, keys, false, g.scale});
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t visible = cache.visible(b, begin + i);
      float* row = scores + i * keys;
      const float* query = q + at + i * g.Z;
      for (int64_t j = 0; j < visible && count <= 4; ++j) row[j] = g.scale * dot(query, k + j * g.Y, g.C);
      applyTailMask(cache, b, begin + i, row);
      const SoftmaxSum total = softmaxRow(row, visible, keys);
      scale(row, 1.0f / total.sum, visible);
    }
    if (count > 4) {
      multiply(count, g.C, keys, rows(scores, keys), rows(v, g.Y), {y + at, g.Z});
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      float* out = y + at + i * g.Z;
      std::fill_n(out, g.C, 0.0f);
      for (int64_t j = 0; j < keys; ++j) addScaled(out, v + j * g.Y, scores[i * keys + j], g.C);
    }
  }
}

void cachedAttention(Context& context) {
  const Floats q = floatInput(context, 0, "q", {-1, -1});
  Geometry g = readGeometry(context, q);
  const Floats k = floatInput(context, 1, "k_cache", {-1, -1, g.Y});
  splitBatch(g, k.dims[0]);
  const Floats v = floatInput(context, 2, "v_cache", {k.dims[0], k.dims[1], g.Y});
  const Ints positions = intInput(context, 3, "positions", {g.T});
  const Ints lengths = intInput(context, 4, "lengths", {g.batch});
  const Floats mask = floatInput(context, 5, "tail_mask", {-1, -1});
  require(mask.size == 0 || (mask.dims[0] == g.S && mask.dims[1] == g.S), "tail_mask: must have shape [", g.S, ",", g.S,
          "] or [0,0], got [", mask.dims[0], ",", mask.dims[1], "]");
  requireRange(lengths, "lengths", mask.size > 0 ? g.S : 1, k.dims[1] + 1);
  requireRange(positions, "positions", 0, INT32_MAX);
  const int64_t shortest = *std::min_element(lengths.data, lengths.data + g.batch);
  for (int64_t i = 0; i < g.S && mask.size > 0; ++i) {
    require(shortest > g.S || maximumOf(mask.data + i * g.S, g.S) > 0.0f, "tail_mask: row ", i,
            " must see at least one key, got none");
  }
  const CacheView cache = {k.data,         v.data,       k.dims[1], g.S, mask.size > 0 ? g.S : 0,
                           positions.data, lengths.data, mask.size > 0 ? mask.data : nullptr};
  float* y = context.output(0, {g.T, g.Z});
  attendCache(context, g, cache, q.data, y);
}

}  // namespace

void attendCache(Context& context, const Geometry& g, const CacheView& cache, const float* q, float* y) {
  const int64_t step = g.S <= 4 ? 4 : queryBlock(cache.capacity), blocks = (g.S + step - 1) / step;
  parallel(context, g.batch * g.kvHeads * blocks, [&](int64_t task) {
    const int64_t block = task % blocks, kv = task / blocks % g.kvHeads, b = task / blocks / g.kvHeads;
    attendCacheBlock(g, cache, q, y, b, kv, block * step, std::min(g.S, (block + 1) * step));
  });
}

std::vector<Kernel> attentionKernels() {
  const std::vector<const char*> attributes = {"batch: int", "heads: int", "kv_heads: int", "scale: float"};
  return {
      {"MoebiusAttention", {"q: float", "k: float", "v: float"}, attributes, {"y: float", "lse: float"}, attention},
      {"MoebiusAttentionGrad",
       {"q: float", "k: float", "v: float", "y: float", "lse: float", "dy: float"},
       attributes,
       {"dq: float", "dk: float", "dv: float"},
       attentionGrad},
      {"MoebiusCachedAttention",
       {"q: float", "k_cache: float", "v_cache: float", "positions: int32", "lengths: int32", "tail_mask: float"},
       {"heads: int", "kv_heads: int", "scale: float"},
       {"y: float"},
       cachedAttention},
  };
}

}  // namespace moebius

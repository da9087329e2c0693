/**
 * @file Whole sub-layers for inference in one operator each: attention over a cache, and routed experts.
 *
 * At one token a step is many small operators, and what each costs to start exceeds its arithmetic. `MoebiusCachedBlock`
 * is norm → q, k, v → head norms and RoPE → cache append → attention → output projection → residual. `MoebiusRoutedBlock`
 * is norm → router → softmax → top-k → experts → residual, with the plan made here instead of on the host.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>
#include <numeric>
#include <vector>

#include "attention.h"
#include "expert_feed_forward.h"
#include "kernel.h"
#include "linear.h"
#include "norm.h"
#include "softmax.h"

namespace moebius {

namespace {

/// x · w / rms(x) for every row; an empty weight passes x through.
const float* normRows(Context& context, const Floats& x, const Floats& weight, float epsilon) {
  if (weight.size == 0) return x.data;
  const int64_t T = x.dims[0], D = x.dims[1];
  float* out = context.temporary(T * D);
  parallelRanges(context, T, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, D)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      normalise(x.data + t * D, weight.data, inverseRms(x.data + t * D, D, epsilon), out + t * D, D);
    }
  });
  return out;
}

/// A norm weight of 0, `narrow` (per head) or `wide` (whole row) elements.
Floats normInput(Context& context, int index, const char* name, int64_t narrow, int64_t wide) {
  const Floats weight = floatInput(context, index, name, {-1});
  require(weight.size == 0 || weight.size == narrow || weight.size == wide, name, ": must have 0, ", narrow, " or ",
          wide, " elements, got ", weight.size);
  return weight;
}

struct Rotation {
  const float* cosine;
  const float* sine;
  int64_t half;
  const int32_t* positions;
};

/// Norm (per head or per row) and rotation of one row, in place.
void prepareRow(float* row, int64_t width, int64_t C, const Floats& norm, float epsilon, const Rotation& rotation,
                int64_t t) {
  for (int64_t at = 0; norm.size > 0 && at < width; at += norm.size) {
    normalise(row + at, norm.data, inverseRms(row + at, norm.size, epsilon), row + at, norm.size);
  }
  const int64_t angle = rotation.half > 0 ? rotation.positions[t] * rotation.half : 0;
  for (int64_t at = 0; at < width; at += C) {
    rotate(row + at, rotation.cosine + angle, rotation.sine + angle, rotation.half, 1.0f);
  }
}

enum CachedInput {
  kX, kNorm, kQuery, kKey, kValue, kOutput, kQueryNorm, kKeyNorm, kCos, kSin, kPositions, kKeys, kValues, kLengths
};

Rotation readRotation(Context& context, int64_t T, int64_t C) {
  const Floats cosine = floatInput(context, kCos, "cos", {-1, -1});
  const Floats sine = floatInput(context, kSin, "sin", {cosine.dims[0], cosine.dims[1]});
  const Ints positions = intInput(context, kPositions, "positions", {T});
  const int64_t half = cosine.size > 0 ? cosine.dims[1] : 0;
  require(2 * half <= C, "cos: must have at most half the head width ", C, " columns, got ", half);
  requireRange(positions, "positions", 0, half > 0 ? cosine.dims[0] : INT32_MAX);
  return {cosine.data, sine.data, half, positions.data};
}

/// The checked inputs of a cached block; `g` has its sizes.
struct CachedBlock {
  Geometry g;
  int64_t D;
  Floats x, norm, query, key, value, output, queryNorm, keyNorm, keys, values;
  Rotation rotation;
  const int32_t* lengths;
};

CachedBlock readCachedBlock(Context& context) {
  CachedBlock in = {};
  Geometry& g = in.g;
  in.x = floatInput(context, kX, "x", {-1, -1});
  g.T = in.x.dims[0];
  in.D = in.x.dims[1];
  in.norm = normInput(context, kNorm, "norm", in.D, in.D);
  g.heads = context.integer("heads");
  g.kvHeads = context.integer("kv_heads");
  g.scale = context.number("scale");
  require(g.heads > 0 && g.kvHeads > 0 && g.heads % g.kvHeads == 0, "heads: must be divisible by kv_heads ", g.kvHeads,
          ", got ", g.heads);
  in.query = floatInput(context, kQuery, "query", {-1, in.D});
  g.Z = in.query.dims[0];
  require(g.Z % g.heads == 0, "query: rows must be divisible by heads ", g.heads, ", got ", g.Z);
  g.C = g.Z / g.heads;
  g.Y = g.C * g.kvHeads;
  in.key = floatInput(context, kKey, "key", {g.Y, in.D});
  in.value = floatInput(context, kValue, "value", {g.Y, in.D});
  in.output = floatInput(context, kOutput, "output", {in.D, g.Z});
  in.queryNorm = normInput(context, kQueryNorm, "query_norm", g.C, g.Z);
  in.keyNorm = normInput(context, kKeyNorm, "key_norm", g.C, g.Y);
  in.rotation = readRotation(context, g.T, g.C);
  in.keys = floatInput(context, kKeys, "k_cache", {-1, -1, g.Y});
  g.batch = in.keys.dims[0];
  require(g.batch > 0 && g.T % g.batch == 0, "x: rows must be divisible by the cache's batch ", g.batch, ", got ", g.T);
  g.S = g.T / g.batch;
  in.values = floatInput(context, kValues, "v_cache", {g.batch, in.keys.dims[1], g.Y});
  const Ints lengths = intInput(context, kLengths, "lengths", {g.batch});
  requireRange(lengths, "lengths", std::max<int64_t>(1, g.S), in.keys.dims[1] + 1);
  in.lengths = lengths.data;
  return in;
}

void cachedBlock(Context& context) {
  const CachedBlock in = readCachedBlock(context);
  const Geometry& g = in.g;
  const int64_t T = g.T, D = in.D, capacity = in.keys.dims[1];
  const float epsilon = context.number("epsilon");
  float* q = context.temporary(T * g.Z);
  float* k = context.temporary(T * g.Y);
  float* v = context.temporary(T * g.Y);
  const float* hidden = normRows(context, in.x, in.norm, epsilon);
  applyLinear(context, hidden, T, D, {{in.query.data, g.Z, q}, {in.key.data, g.Y, k}, {in.value.data, g.Y, v}});
  std::vector<int32_t> slots(T);
  for (int64_t t = 0; t < T; ++t) slots[t] = static_cast<int32_t>(in.lengths[t / g.S] - g.S + t % g.S);
  parallelRanges(context, T, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, g.Z)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      prepareRow(q + t * g.Z, g.Z, g.C, in.queryNorm, epsilon, in.rotation, t);
      prepareRow(k + t * g.Y, g.Y, g.C, in.keyNorm, epsilon, in.rotation, t);
      // The cache's own tensors are written in place: their owner gives them to nobody else (see the operator table).
      const int64_t slot = (t / g.S * capacity + slots[t]) * g.Y;
      std::copy_n(k + t * g.Y, g.Y, const_cast<float*>(in.keys.data) + slot);
      std::copy_n(v + t * g.Y, g.Y, const_cast<float*>(in.values.data) + slot);
    }
  });
  const CacheView cache = {in.keys.data, in.values.data, capacity, g.S, 0, slots.data(), in.lengths, nullptr};
  float* attended = context.temporary(T * g.Z);
  attendCache(context, g, cache, q, attended);
  float* y = context.output(0, {T, D});
  applyLinear(context, attended, T, g.Z, {{in.output.data, D, y}});
  addScaled(y, in.x.data, 1.0f, T * D);
}

/// Top-k experts of each token by softmax scores (ties: lowest expert), and the plan of their rows.
struct Routing {
  std::vector<int32_t> offsets, token, tokenOffsets, slot;
  std::vector<float> weights;
};

/// Chooses k of E scores into ids (best first) and their weights.
void chooseTop(const float* scores, int64_t E, int64_t k, bool normalized, float factor, int32_t* ids, float* weights) {
  std::vector<int32_t> order(E);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int32_t a, int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  });
  float total = 0;
  for (int64_t i = 0; i < k; ++i) total += scores[order[i]];
  for (int64_t i = 0; i < k; ++i) {
    ids[i] = order[i];
    weights[i] = factor * (normalized ? scores[order[i]] / total : scores[order[i]]);
  }
}

Routing planRows(const int32_t* ids, const float* weights, int64_t T, int64_t E, int64_t k) {
  Routing r;
  r.offsets.assign(E + 1, 0);
  for (int64_t i = 0; i < T * k; ++i) ++r.offsets[ids[i] + 1];
  for (int64_t e = 0; e < E; ++e) r.offsets[e + 1] += r.offsets[e];
  std::vector<int32_t> next(r.offsets.begin(), r.offsets.end() - 1);
  r.token.resize(T * k);
  r.slot.resize(T * k);
  r.weights.resize(T * k);
  r.tokenOffsets.resize(T + 1);
  for (int64_t i = 0; i < T * k; ++i) {
    const int32_t n = next[ids[i]]++;
    r.token[n] = static_cast<int32_t>(i / k);
    r.weights[n] = weights[i];
    r.slot[i] = n;
  }
  for (int64_t t = 0; t <= T; ++t) r.tokenOffsets[t] = static_cast<int32_t>(t * k);
  return r;
}

void routedBlock(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const int64_t T = x.dims[0], D = x.dims[1], E = context.integer("experts"), k = context.integer("top_k");
  require(k > 0 && k <= E, "top_k: must be in [1, ", E, "], got ", k);
  const Floats norm = normInput(context, 1, "norm", D, D);
  const Floats router = floatInput(context, 2, "router", {E, D});
  Experts in;
  in.activation = activationOf(context.string("activation"));
  in.D = D;
  in.F = context.floats(3).dims[0];
  for (int64_t e = 0; e < E; ++e) {
    in.gate.push_back(floatInput(context, static_cast<int>(3 + e), "gate", {in.F, D}).data);
    in.up.push_back(floatInput(context, static_cast<int>(3 + E + e), "up", {in.F, D}).data);
    in.down.push_back(floatInput(context, static_cast<int>(3 + 2 * E + e), "down", {in.F, D}).data);
  }
  float* y = context.output(0, {T, D});
  int32_t* ids = context.intOutput(1, {T, k});
  float* weights = context.output(2, {T, k});
  in.x = normRows(context, x, norm, context.number("epsilon"));
  float* scores = context.temporary(T * E);
  applyLinear(context, in.x, T, D, {{router.data, E, scores}});
  for (int64_t t = 0; t < T; ++t) {
    float* row = scores + t * E;
    const SoftmaxSum total = exponentials(row, row, E);
    require(total.sum > 0 && total.sum < __builtin_inff(), "router: scores of row ", t, " must be finite");
    scale(row, 1.0f / total.sum, E);
    chooseTop(row, E, k, context.integer("normalize") != 0, context.number("scale"), ids + t * k, weights + t * k);
  }
  const Routing routing = planRows(ids, weights, T, E, k);
  in.plan = {T, E, T * k, routing.offsets.data(), routing.token.data(), routing.tokenOffsets.data(),
             routing.slot.data()};
  in.weights = routing.weights.data();
  float* g = context.temporary(T * k * in.F);
  float* u = context.temporary(T * k * in.F);
  forwardExperts(context, in, {g, u, x.data, y});
}

void normLinear(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const int64_t T = x.dims[0], D = x.dims[1], count = context.integer("count");
  const Floats norm = normInput(context, 1, "norm", D, D);
  std::vector<LinearWeight> weights;
  for (int l = 0; l < count; ++l) {
    const Floats weight = floatInput(context, 2 + l, "weight", {-1, D});
    weights.push_back({weight.data, weight.dims[0], context.output(l, {T, weight.dims[0]})});
  }
  applyLinear(context, normRows(context, x, norm, context.number("epsilon")), T, D, weights);
}

}  // namespace

std::vector<Kernel> decodeKernels() {
  return {
      {"MoebiusNormLinear",
       {"x: float", "norm: float", "weight: count * float"},
       {"count: int >= 1", "epsilon: float"},
       {"y: count * float"},
       normLinear},
      {"MoebiusCachedBlock",
       {"x: float", "norm: float", "query: float", "key: float", "value: float", "output: float", "query_norm: float",
        "key_norm: float", "cos: float", "sin: float", "positions: int32", "k_cache: float", "v_cache: float",
        "lengths: int32"},
       {"heads: int", "kv_heads: int", "scale: float", "epsilon: float"},
       {"y: float"},
       cachedBlock},
      {"MoebiusRoutedBlock",
       {"x: float", "norm: float", "router: float", "gate: experts * float", "up: experts * float",
        "down: experts * float"},
       {"experts: int >= 1", "top_k: int", "normalize: int", "scale: float", "epsilon: float", "activation: string"},
       {"y: float", "ids: int32", "weights: float"},
       routedBlock},
  };
}

}  // namespace moebius

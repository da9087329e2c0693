/**
 * @file Rows moved by a plan: gather, combine, scattered scores, the gradient of an embedding, and per-expert products.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>
#include <cstring>
#include <vector>

#include "few_rows.h"
#include "gemm.h"
#include "kernel.h"
#include "row_plan.h"

namespace moebius {

namespace {

int64_t rowGrain(int64_t width) { return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width)); }

void gatherRows(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const Ints token = intInput(context, 1, "token", {-1});
  requireRange(token, "token", 0, x.dims[0]);
  const int64_t N = token.size, D = x.dims[1];
  float* y = context.output(0, {N, D});
  parallelRanges(context, N, rowGrain(D), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      std::memcpy(y + n * D, x.data + token.data[n] * D, static_cast<size_t>(D) * sizeof(float));
    }
  });
}

void combineRows(Context& context) {
  const Floats y = floatInput(context, 0, "y", {-1, -1});
  RowPlan plan;
  plan.pairs = y.dims[0];
  const Floats weights = floatInput(context, 1, "weights", {-1});
  require(weights.size == 0 || weights.size == plan.pairs, "weights: must have ", plan.pairs, " or 0 elements, got ",
          weights.size);
  const Ints ends = intInput(context, 2, "token_offsets", {-1});
  require(ends.size > 0, "token_offsets: must not be empty");
  plan.tokens = ends.size - 1;
  readTokenGrouping(context, 2, 3, plan);
  float* out = context.output(0, {plan.tokens, y.dims[1]});
  combinePairs(context, plan, y.data, weights.size > 0 ? weights.data : nullptr, y.dims[1], out);
}

void scatterScores(Context& context) {
  const Floats dw = floatInput(context, 0, "dw", {-1});
  const Ints source = intInput(context, 1, "source", {dw.size});
  const int64_t T = context.integer("tokens"), E = context.integer("experts");
  require(T >= 0 && E >= 0, "tokens, experts: must not be negative, got ", T, ", ", E);
  requireRange(source, "source", 0, T * E);
  float* out = context.output(0, {T, E});
  std::fill_n(out, T * E, 0.0f);
  for (int64_t n = 0; n < dw.size; ++n) out[source.data[n]] += dw.data[n];
}

void embeddingGrad(Context& context) {
  const Floats dy = floatInput(context, 0, "dy", {-1, -1});
  const int64_t T = dy.dims[0], D = dy.dims[1], V = context.integer("vocabulary");
  const Ints ids = intInput(context, 1, "ids", {T});
  require(V >= 0, "vocabulary: must not be negative, got ", V);
  requireRange(ids, "ids", 0, V);
  float* out = context.output(0, {V, D});
  std::vector<int64_t> start(V + 1, 0);
  for (int64_t t = 0; t < T; ++t) ++start[ids.data[t] + 1];
  for (int64_t v = 0; v < V; ++v) start[v + 1] += start[v];
  std::vector<int64_t> order(T), next(start.begin(), start.end() - 1);
  for (int64_t t = 0; t < T; ++t) order[next[ids.data[t]]++] = t;
  parallelRanges(context, V, rowGrain(D), [&](int64_t begin, int64_t end) {
    std::memset(out + begin * D, 0, static_cast<size_t>((end - begin) * D) * sizeof(float));
    for (int64_t v = begin; v < end; ++v) {
      for (int64_t i = start[v]; i < start[v + 1]; ++i) addScaled(out + v * D, dy.data + order[i] * D, 1.0f, D);
    }
  });
}

/// x[N,I], offsets[E+1], weights×E [O,I] of a grouped product.
struct Grouped {
  RowPlan plan;
  int64_t I = 0, O = 0;
  const float* x = nullptr;
  std::vector<const float*> weights;
};

Grouped readGrouped(Context& context) {
  Grouped in;
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  in.plan.experts = context.integer("experts");
  in.plan.pairs = x.dims[0];
  in.I = x.dims[1];
  in.x = x.data;
  readExpertGrouping(context, 1, -1, in.plan);
  in.O = context.floats(2).dims[0];
  for (int e = 0; e < in.plan.experts; ++e) {
    in.weights.push_back(floatInput(context, 2 + e, "weights", {in.O, in.I}).data);
  }
  return in;
}

void groupedMatMul(Context& context) {
  const Grouped in = readGrouped(context);
  float* y = context.output(0, {in.plan.pairs, in.O});
  const std::vector<RowChunk> chunks = planChunks(in.plan, context.threads());
  parallel(context, static_cast<int64_t>(chunks.size()), [&](int64_t task) {
    const RowChunk& chunk = chunks[task];
    const int64_t count = chunk.end - chunk.begin;
    const float* x = in.x + chunk.begin * in.I;
    float* out = y + chunk.begin * in.O;
    if (count > kFewRows) {
      multiply(count, in.O, in.I, rows(x, in.I), transposed(in.weights[chunk.expert], in.I), {out, in.O});
      return;
    }
    const float* from[kFewRows];
    for (int64_t r = 0; r < count; ++r) from[r] = x + r * in.I;
    multiplyFewRowsTransposed(from, count, in.weights[chunk.expert], in.I, in.O, in.I, out, in.O);
  });
}

void groupedMatMulGrad(Context& context) {
  const Grouped in = readGrouped(context);
  const RowPlan& plan = in.plan;
  const Floats dy = floatInput(context, 2 + static_cast<int>(plan.experts), "dy", {plan.pairs, in.O});
  float* dx = context.output(0, {plan.pairs, in.I});
  std::vector<float*> gradients;
  for (int e = 0; e < plan.experts; ++e) gradients.push_back(context.output(1 + e, {in.O, in.I}));
  const std::vector<RowChunk> chunks = planChunks(plan, context.threads());
  const int64_t slices = (in.O + kBlockRows - 1) / kBlockRows;
  const int64_t first = plan.experts * slices;
  parallel(context, first + static_cast<int64_t>(chunks.size()), [&](int64_t task) {
    if (task < first) {
      const int64_t e = task / slices, o = task % slices * kBlockRows, begin = plan.begin(e);
      const int64_t count = std::min(kBlockRows, in.O - o);
      multiply(count, in.I, plan.rows(e), transposed(dy.data + begin * in.O + o, in.O), rows(in.x + begin * in.I, in.I),
               {gradients[e] + o * in.I, in.I});
      return;
    }
    const RowChunk& chunk = chunks[task - first];
    multiply(chunk.end - chunk.begin, in.I, in.O, rows(dy.data + chunk.begin * in.O, in.O),
             rows(in.weights[chunk.expert], in.I), {dx + chunk.begin * in.I, in.I});
  });
}

}  // namespace

std::vector<Kernel> rowKernels() {
  return {
      {"MoebiusGatherRows", {"x: float", "token: int32"}, {}, {"y: float"}, gatherRows},
      {"MoebiusCombineRows",
       {"y: float", "weights: float", "token_offsets: int32", "slot: int32"},
       {},
       {"out: float"},
       combineRows},
      {"MoebiusScatterScores",
       {"dw: float", "source: int32"},
       {"tokens: int", "experts: int"},
       {"dscores: float"},
       scatterScores},
      {"MoebiusEmbeddingGrad", {"dy: float", "ids: int32"}, {"vocabulary: int"}, {"dtable: float"}, embeddingGrad},
      {"MoebiusGroupedMatMul",
       {"x: float", "offsets: int32", "weights: experts * float"},
       {"experts: int >= 1"},
       {"y: float"},
       groupedMatMul},
      {"MoebiusGroupedMatMulGrad",
       {"x: float", "offsets: int32", "weights: experts * float", "dy: float"},
       {"experts: int >= 1"},
       {"dx: float", "dweights: experts * float"},
       groupedMatMulGrad},
  };
}

}  // namespace moebius

/**
 * @file The row plan of routed pairs as kernels see it, and the combination of pairs into tokens.
 *
 * Pairs n are grouped by expert: offsets[e] ≤ n < offsets[e+1], and belong to token[n]. The same pairs grouped by token
 * are slot[tokenOffsets[t]] … slot[tokenOffsets[t+1]-1]. With both, every sum is a gather in a fixed order.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_ROW_PLAN_H_
#define MOEBIUS_ROW_PLAN_H_

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "kernel.h"

namespace moebius {

struct RowPlan {
  int64_t tokens = 0;
  int64_t experts = 0;
  int64_t pairs = 0;
  const int32_t* offsets = nullptr;
  const int32_t* token = nullptr;
  const int32_t* tokenOffsets = nullptr;
  const int32_t* slot = nullptr;

  int64_t begin(int64_t expert) const { return offsets[expert]; }
  int64_t rows(int64_t expert) const { return offsets[expert + 1] - offsets[expert]; }
};

/// Checks the token grouping: offsets end at the number of pairs, slots in range.
inline void readTokenGrouping(Context& context, int tokenOffsets, int slot, RowPlan& plan) {
  const Ints ends = intInput(context, tokenOffsets, "token_offsets", {plan.tokens + 1});
  const Ints slots = intInput(context, slot, "slot", {plan.pairs});
  requireOffsets(ends, "token_offsets", plan.pairs);
  requireRange(slots, "slot", 0, plan.pairs);
  plan.tokenOffsets = ends.data;
  plan.slot = slots.data;
}

/// Checks the expert grouping: offsets[E+1] and, unless `token` is negative, token[N] in range.
inline void readExpertGrouping(Context& context, int offsets, int token, RowPlan& plan) {
  const Ints ends = intInput(context, offsets, "offsets", {plan.experts + 1});
  requireOffsets(ends, "offsets", plan.pairs);
  plan.offsets = ends.data;
  if (token < 0) return;
  const Ints tokens = intInput(context, token, "token", {plan.pairs});
  requireRange(tokens, "token", 0, plan.tokens);
  plan.token = tokens.data;
}

/// Rows [begin, end) of one expert's pairs.
struct RowChunk {
  int64_t expert;
  int64_t begin;
  int64_t end;
};

/// Cuts each expert's rows into chunks that keep all threads busy, largest first. A chunk is at least one row block of
/// the matrix product, because each chunk packs its expert's weights again.
inline std::vector<RowChunk> planChunks(const RowPlan& plan, int threads) {
  const int64_t share = (plan.pairs + threads * 4 - 1) / (threads * 4);
  const int64_t limit = std::max<int64_t>(kBlockRows, share);
  std::vector<RowChunk> chunks;
  for (int64_t e = 0; e < plan.experts; ++e) {
    const int64_t count = plan.rows(e);
    if (count == 0) continue;
    const int64_t parts = threads == 1 ? 1 : (count + limit - 1) / limit;
    const int64_t step = (count + parts - 1) / parts;
    for (int64_t r = 0; r < count; r += step) {
      chunks.push_back({e, plan.begin(e) + r, plan.begin(e) + std::min(count, r + step)});
    }
  }
  std::stable_sort(chunks.begin(), chunks.end(),
                   [](const RowChunk& a, const RowChunk& b) { return a.end - a.begin > b.end - b.begin; });
  return chunks;
}

/// out[t] = residual[t] + sum over t's pairs of weights[n] * pairs[n] (weights may be null: ones; residual: zeros).
inline void combinePairs(Context& context, const RowPlan& plan, const float* pairs, const float* weights,
                         int64_t width, float* out, const float* residual = nullptr) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  parallelRanges(context, plan.tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* slot = plan.slot + plan.tokenOffsets[t];
      const int64_t count = plan.tokenOffsets[t + 1] - plan.tokenOffsets[t];
      float* to = out + t * width;
      for (int64_t d = 0; d < width; d += kWidth) {
        const int64_t left = std::min<int64_t>(kWidth, width - d);
        Vector total = {};
        if (residual) total = left == kWidth ? load(residual + t * width + d) : loadPart(residual + t * width + d, left);
        for (int64_t i = 0; i < count; ++i) {
          const float* from = pairs + slot[i] * width + d;
          const Vector value = left == kWidth ? load(from) : loadPart(from, left);
          total += weights ? broadcast(weights[slot[i]]) * value : value;
        }
        if (left == kWidth) {
          store(to + d, total);
        } else {
          storePart(to + d, total, left);
        }
      }
    }
  });
}

}  // namespace moebius

#endif  // MOEBIUS_ROW_PLAN_H_

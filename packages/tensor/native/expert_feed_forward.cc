/**
 * @file Gated feed-forward experts over routed rows: y[t] = sum over t's pairs n of w[n] * down(act(gate x) * up x).
 *
 * Forward, one task per chunk of an expert's rows: gather (inside the product) → gate and up products → activation →
 * down product; then one pass combines pairs into tokens. Backward needs only x and the saved g, u:
 *   da = dy[token] · downᵀ (unweighted), dw = sum(act(g) u da), then everything scaled by w;
 *   dgate, dup, ddown are products over the expert's rows, dx a combination of dg · gate + du · up.
 * All expert weights are row-major [F, D]. With few rows per expert (decoding) a task is a block of neurons instead: its
 * rows of gate, up and down are contiguous and are streamed once.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include "expert_feed_forward.h"

#include <algorithm>
#include <vector>

#include "few_rows.h"
#include "gemm.h"
#include "kernel.h"
#include "row_plan.h"
#include "scratch.h"

namespace moebius {

namespace {

constexpr int kListStart = 6;

Experts readExperts(Context& context) {
  Experts in;
  RowPlan& plan = in.plan;
  plan.experts = context.integer("experts");
  require(plan.experts > 0, "experts: must be at least 1, got ", plan.experts);
  in.activation = activationOf(context.string("activation"));
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const Floats weights = floatInput(context, 1, "weights", {-1});
  plan.tokens = x.dims[0];
  plan.pairs = weights.size;
  in.D = x.dims[1];
  in.x = x.data;
  in.weights = weights.data;
  readExpertGrouping(context, 2, 3, plan);
  readTokenGrouping(context, 4, 5, plan);
  in.F = context.floats(kListStart).dims[0];
  const int E = static_cast<int>(plan.experts);
  for (int e = 0; e < E; ++e) {
    in.gate.push_back(floatInput(context, kListStart + e, "gate", {in.F, in.D}).data);
    in.up.push_back(floatInput(context, kListStart + E + e, "up", {in.F, in.D}).data);
    in.down.push_back(floatInput(context, kListStart + 2 * E + e, "down", {in.F, in.D}).data);
  }
  return in;
}

/// Many rows: one chunk of one expert, pairs [chunk.begin, chunk.end) of g, u and y.
void forwardChunk(const Experts& in, const RowChunk& chunk, float* g, float* u, float* pairs) {
  const int64_t e = chunk.expert, D = in.D, F = in.F;
  const int64_t begin = chunk.begin, count = chunk.end - chunk.begin;
  const Operand x = rows(in.x, D, in.plan.token + begin);
  float* gChunk = g + begin * F;
  float* uChunk = u + begin * F;
  multiply(count, F, D, x, transposed(in.gate[e], D), {gChunk, F});
  multiply(count, F, D, x, transposed(in.up[e], D), {uChunk, F});
  float* h = Scratch::ofThisThread().get(Scratch::kFirst, count * F);
  gate(in.activation, gChunk, uChunk, h, count * F);
  multiply(count, D, F, rows(h, F), rows(in.down[e], D), {pairs + begin * D, D});
}

/// Few rows: one block of neurons [f0, f1) of one expert; `partial` receives its share of the expert's outputs.
struct NeuronBlock {
  int64_t expert, f0, f1;
  float* partial;
};

void forwardNeurons(const Experts& in, const NeuronBlock& block, float* g, float* u) {
  const int64_t e = block.expert, D = in.D, F = in.F, width = block.f1 - block.f0;
  const int64_t begin = in.plan.begin(e), count = in.plan.rows(e);
  const float* x[kFewRows];
  for (int64_t r = 0; r < count; ++r) x[r] = in.x + in.plan.token[begin + r] * D;
  float* gBlock = g + begin * F + block.f0;
  float* uBlock = u + begin * F + block.f0;
  multiplyFewRowsTransposed(x, count, in.gate[e] + block.f0 * D, D, width, D, gBlock, F);
  multiplyFewRowsTransposed(x, count, in.up[e] + block.f0 * D, D, width, D, uBlock, F);
  float* h = Scratch::ofThisThread().get(Scratch::kFirst, count * width);
  for (int64_t r = 0; r < count; ++r) gate(in.activation, gBlock + r * F, uBlock + r * F, h + r * width, width);
  multiplyFewRows(h, width, count, in.down[e] + block.f0 * D, D, D, width, block.partial, D);
}

/// Neurons per task with few rows: fixed by F alone, so that sums do not depend on threads.
int64_t neuronStep(int64_t F) {
  return F <= 64 ? F : std::max<int64_t>(32, std::min<int64_t>(256, (F / 8 + 15) / 16 * 16));
}

void forward(Context& context) {
  const Experts in = readExperts(context);
  float* y = context.output(0, {in.plan.tokens, in.D});
  float* g = context.output(1, {in.plan.pairs, in.F});
  float* u = context.output(2, {in.plan.pairs, in.F});
  forwardExperts(context, in, {g, u, nullptr, y});
}

struct BackwardBuffers {
  const float* g;
  const float* u;
  const float* dy;
  float* dg;
  float* du;
  float* wh;
  float* dxPairs;
  float* dweights;
};

void backwardChunk(const Experts& in, const RowChunk& chunk, const BackwardBuffers& b) {
  const int64_t e = chunk.expert, D = in.D, F = in.F, begin = chunk.begin, count = chunk.end - chunk.begin;
  float* da = b.dg + begin * F;  // overwritten row by row with dg
  multiply(count, F, D, rows(b.dy, D, in.plan.token + begin), transposed(in.down[e], D), {da, F});
  withActivation(in.activation, [&](auto activation) {
    for (int64_t n = begin; n < begin + count; ++n) {
      b.dweights[n] = gateBackwardRow<activation()>(b.g + n * F, b.u + n * F, b.dg + n * F, in.weights[n],
                                                    b.dg + n * F, b.du + n * F, b.wh + n * F, F);
    }
  });
  float* dx = b.dxPairs + begin * D;
  multiply(count, D, F, rows(b.dg + begin * F, F), rows(in.gate[e], D), {dx, D});
  multiply(count, D, F, rows(b.du + begin * F, F), rows(in.up[e], D), {dx, D, true});
}

void backward(Context& context) {
  const Experts in = readExperts(context);
  const RowPlan& plan = in.plan;
  const int64_t D = in.D, F = in.F;
  const int E = static_cast<int>(plan.experts);
  const int saved = kListStart + 3 * E;
  BackwardBuffers b = {};
  b.g = floatInput(context, saved, "g", {plan.pairs, F}).data;
  b.u = floatInput(context, saved + 1, "u", {plan.pairs, F}).data;
  b.dy = floatInput(context, saved + 2, "dy", {plan.tokens, D}).data;
  float* dx = context.output(0, {plan.tokens, D});
  b.dweights = context.output(1, {plan.pairs});
  b.dg = context.temporary(plan.pairs * F);
  b.du = context.temporary(plan.pairs * F);
  b.wh = context.temporary(plan.pairs * F);
  b.dxPairs = context.temporary(plan.pairs * D);
  std::vector<float*> gradients;  // dgate×E, dup×E, ddown×E
  for (int i = 0; i < 3 * E; ++i) gradients.push_back(context.output(2 + i, {F, D}));

  const std::vector<RowChunk> chunks = planChunks(plan, context.threads());
  parallel(context, static_cast<int64_t>(chunks.size()), [&](int64_t task) { backwardChunk(in, chunks[task], b); });

  std::vector<int64_t> order(plan.experts);
  for (int64_t e = 0; e < plan.experts; ++e) order[e] = e;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t c) { return plan.rows(a) > plan.rows(c); });
  const int64_t slices = (F + kBlockRows - 1) / kBlockRows;
  const int64_t height = ((F + slices - 1) / slices + kTileRows - 1) / kTileRows * kTileRows;
  parallel(context, plan.experts * slices * 3, [&](int64_t task) {
    const int64_t e = order[task / (slices * 3)], kind = task / slices % 3, f = task % slices * height;
    const int64_t begin = plan.begin(e), rowCount = plan.rows(e), count = std::min(height, F - f);
    if (count <= 0) return;
    const float* left = (kind == 0 ? b.dg : kind == 1 ? b.du : b.wh) + begin * F + f;
    const float* right = kind == 2 ? b.dy : in.x;
    multiply(count, D, rowCount, transposed(left, F), rows(right, D, plan.token + begin),
             {gradients[kind * E + e] + f * D, D});
  });
  combinePairs(context, plan, b.dxPairs, nullptr, D, dx);
}

}  // namespace

void forwardExperts(Context& context, const Experts& in, const ExpertOutputs& out) {
  const RowPlan& plan = in.plan;
  const int64_t D = in.D, F = in.F;
  float *g = out.g, *u = out.u;
  float* pairs = context.temporary(plan.pairs * D);
  std::vector<NeuronBlock> blocks;
  const int64_t step = std::max<int64_t>(1, neuronStep(F));
  const int64_t blocksPerExpert = (F + step - 1) / step;
  int64_t fewRows = 0;
  for (int64_t e = 0; e < plan.experts; ++e) fewRows += plan.rows(e) <= kFewRows ? plan.rows(e) : 0;
  float* partials = fewRows > 0 ? context.temporary(fewRows * blocksPerExpert * D) : nullptr;
  float* nextPartial = partials;
  for (int64_t e = 0; e < plan.experts; ++e) {
    if (plan.rows(e) == 0 || plan.rows(e) > kFewRows) continue;
    for (int64_t f = 0; f < F; f += step) {
      blocks.push_back({e, f, std::min(F, f + step), nextPartial});
      nextPartial += plan.rows(e) * D;
    }
  }
  std::vector<RowChunk> chunks = planChunks(plan, context.threads());
  chunks.erase(std::remove_if(chunks.begin(), chunks.end(),
                              [&](const RowChunk& chunk) { return plan.rows(chunk.expert) <= kFewRows; }),
               chunks.end());

  const int64_t large = static_cast<int64_t>(chunks.size());
  parallel(context, large + static_cast<int64_t>(blocks.size()), [&](int64_t task) {
    if (task < large) {
      forwardChunk(in, chunks[task], g, u, pairs);
    } else {
      forwardNeurons(in, blocks[task - large], g, u);
    }
  });
  for (const NeuronBlock& block : blocks) {
    float* to = pairs + plan.begin(block.expert) * D;
    const int64_t count = plan.rows(block.expert) * D;
    if (block.f0 == 0) {
      std::copy_n(block.partial, count, to);
    } else {
      addScaled(to, block.partial, 1.0f, count);
    }
  }
  combinePairs(context, plan, pairs, in.weights, D, out.y, out.residual);
}

std::vector<Kernel> expertFeedForwardKernels() {
  const std::vector<const char*> inputs = {
      "x: float",   "weights: float",        "offsets: int32",      "token: int32",          "token_offsets: int32",
      "slot: int32", "gate: experts * float", "up: experts * float", "down: experts * float"};
  std::vector<const char*> gradientInputs = inputs;
  for (const char* input : {"g: float", "u: float", "dy: float"}) gradientInputs.push_back(input);
  const std::vector<const char*> attributes = {"experts: int >= 1", "activation: string"};
  return {
      {"MoebiusExpertFeedForward", inputs, attributes, {"y: float", "g: float", "u: float"}, forward},
      {"MoebiusExpertFeedForwardGrad",
       gradientInputs,
       attributes,
       {"dx: float", "dweights: float", "dgate: experts * float", "dup: experts * float", "ddown: experts * float"},
       backward},
  };
}

}  // namespace moebius

/**
 * @file RMS normalisation, and RMS normalisation per head fused with rotary position embedding.
 *
 * y = x · inv · w with inv = 1 / sqrt(mean(x²) + epsilon). Rotary embedding in the "rotate half" layout: with R/2 columns
 * in the tables, the first R elements of a head are rotated as pairs (i, i + R/2), the rest pass.
 * Gradients of weights are summed over fixed blocks of rows, so they do not depend on the number of threads.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>

#include "kernel.h"
#include "norm.h"
#include "vector.h"

namespace moebius {

namespace {

constexpr int64_t kRowsPerBlock = 64;

/// dx = inv · (w dy − x · inv² / D · sum(w dy x)); dweight += dy · x · inv.
void normaliseBackward(const float* x, const float* weight, float inv, const float* dy, float* dx, float* dweight,
                       int64_t count) {
  Vector total = {};
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) total += load(weight + i) * load(dy + i) * load(x + i);
  float rest = 0;
  for (int64_t j = i; j < count; ++j) rest += weight[j] * dy[j] * x[j];
  const float pull = (sum(total) + rest) * inv * inv / static_cast<float>(count);
  const Vector scale = broadcast(inv), back = broadcast(pull);
  for (i = 0; i + kWidth <= count; i += kWidth) {
    const Vector value = load(x + i), slope = load(dy + i);
    store(dweight + i, load(dweight + i) + slope * (value * scale));
    store(dx + i, scale * (load(weight + i) * slope - value * back));
  }
  for (; i < count; ++i) {
    const float value = x[i], slope = dy[i];
    dweight[i] += slope * (value * inv);
    dx[i] = inv * (weight[i] * slope - value * pull);
  }
}

int64_t blocksOf(int64_t rowCount) { return (rowCount + kRowsPerBlock - 1) / kRowsPerBlock; }

/// Runs fn(begin, end, partial) for fixed blocks of rows, each with a zeroed partial sum, then adds the partials in order.
template <typename Fn>
void reduceBlocks(Context& context, int64_t rowCount, int64_t width, float* total, Fn fn) {
  const int64_t blocks = blocksOf(rowCount);
  float* partials = context.temporary(blocks * width);
  parallelRanges(context, blocks, 1, [&](int64_t from, int64_t to) {
    for (int64_t block = from; block < to; ++block) {
      float* partial = partials + block * width;
      std::fill_n(partial, width, 0.0f);
      fn(block * kRowsPerBlock, std::min(rowCount, (block + 1) * kRowsPerBlock), partial);
    }
  });
  std::fill_n(total, width, 0.0f);
  for (int64_t block = 0; block < blocks; ++block) addScaled(total, partials + block * width, 1.0f, width);
}

void rmsNorm(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const int64_t T = x.dims[0], D = x.dims[1];
  const Floats weight = floatInput(context, 1, "weight", {D});
  const float epsilon = context.number("epsilon");
  float* y = context.output(0, {T, D});
  float* inv = context.output(1, {T});
  parallelRanges(context, T, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, D)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      inv[t] = inverseRms(x.data + t * D, D, epsilon);
      normalise(x.data + t * D, weight.data, inv[t], y + t * D, D);
    }
  });
}

/// dx = the norm's gradient, plus `residual` when there is one (the slope that passes a pre-norm layer by).
void rmsNormGradient(Context& context, bool withResidual) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const int64_t T = x.dims[0], D = x.dims[1];
  const Floats weight = floatInput(context, 1, "weight", {D});
  const Floats inv = floatInput(context, 2, "inv", {T});
  const Floats dy = floatInput(context, 3, "dy", {T, D});
  const float* residual = withResidual ? floatInput(context, 4, "residual", {T, D}).data : nullptr;
  float* dx = context.output(0, {T, D});
  float* dweight = context.output(1, {D});
  reduceBlocks(context, T, D, dweight, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t t = begin; t < end; ++t) {
      normaliseBackward(x.data + t * D, weight.data, inv.data[t], dy.data + t * D, dx + t * D, partial, D);
      if (residual) addScaled(dx + t * D, residual + t * D, 1.0f, D);
    }
  });
}

void rmsNormGrad(Context& context) { rmsNormGradient(context, false); }
void rmsNormGradAdd(Context& context) { rmsNormGradient(context, true); }

/// The inputs shared by both directions of head norm and RoPE.
struct Heads {
  int64_t T, heads, C, half;
  const float* x;
  const float* weight;  // null: no normalisation
  const float* cosine;
  const float* sine;
  const int32_t* positions;
};

constexpr int64_t kMaxHeadWidth = 1024;

Heads readHeads(Context& context) {
  Heads in = {};
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  in.heads = context.integer("heads");
  require(in.heads > 0 && x.dims[1] % in.heads == 0, "x: width must be divisible by heads ", in.heads, ", got ",
          x.dims[1]);
  in.T = x.dims[0];
  in.C = x.dims[1] / in.heads;
  require(in.C <= kMaxHeadWidth, "x: head width must be at most ", kMaxHeadWidth, ", got ", in.C);
  const Floats weight = floatInput(context, 1, "weight", {-1});
  require(weight.size == 0 || weight.size == in.C, "weight: must have head width ", in.C, " or 0, got ", weight.size);
  const Floats cosine = floatInput(context, 2, "cos", {-1, -1});
  const Floats sine = floatInput(context, 3, "sin", {cosine.dims[0], cosine.dims[1]});
  in.half = cosine.size > 0 ? cosine.dims[1] : 0;
  require(2 * in.half <= in.C, "cos: must have at most half the head width ", in.C, " columns, got ", in.half);
  const Ints positions = intInput(context, 4, "positions", {in.half > 0 ? in.T : -1});
  if (in.half > 0) requireRange(positions, "positions", 0, cosine.dims[0]);
  in.x = x.data;
  in.weight = weight.size > 0 ? weight.data : nullptr;
  in.cosine = cosine.data;
  in.sine = sine.data;
  in.positions = positions.data;
  return in;
}

void headNormRope(Context& context) {
  const Heads in = readHeads(context);
  const int64_t Z = in.heads * in.C;
  const float epsilon = context.number("epsilon");
  float* y = context.output(0, {in.T, Z});
  float* inv = context.output(1, {in.weight ? in.T : 0, in.weight ? in.heads : 0});
  parallelRanges(context, in.T, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, Z)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t angle = in.half > 0 ? in.positions[t] * in.half : 0;
      for (int64_t h = 0; h < in.heads; ++h) {
        const float* from = in.x + t * Z + h * in.C;
        float* to = y + t * Z + h * in.C;
        if (in.weight) {
          inv[t * in.heads + h] = inverseRms(from, in.C, epsilon);
          normalise(from, in.weight, inv[t * in.heads + h], to, in.C);
        } else {
          std::copy_n(from, in.C, to);
        }
        rotate(to, in.cosine + angle, in.sine + angle, in.half, 1.0f);
      }
    }
  });
}

void headNormRopeGrad(Context& context) {
  const Heads in = readHeads(context);
  const int64_t Z = in.heads * in.C, normed = in.weight ? 1 : 0;
  const Floats inv = floatInput(context, 5, "inv", {normed * in.T, normed * in.heads});
  const Floats dy = floatInput(context, 6, "dy", {in.T, Z});
  float* dx = context.output(0, {in.T, Z});
  float* dweight = context.output(1, {normed * in.C});
  reduceBlocks(context, in.T, normed * in.C, dweight, [&](int64_t begin, int64_t end, float* partial) {
    float slope[kMaxHeadWidth];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t angle = in.half > 0 ? in.positions[t] * in.half : 0;
      for (int64_t h = 0; h < in.heads; ++h) {
        const int64_t at = t * Z + h * in.C;
        float* target = in.weight ? slope : dx + at;
        std::copy_n(dy.data + at, in.C, target);
        rotate(target, in.cosine + angle, in.sine + angle, in.half, -1.0f);
        if (!in.weight) continue;
        normaliseBackward(in.x + at, in.weight, inv.data[t * in.heads + h], slope, dx + at, partial, in.C);
      }
    }
  });
}

}  // namespace

std::vector<Kernel> normRopeKernels() {
  return {
      {"MoebiusRmsNorm", {"x: float", "weight: float"}, {"epsilon: float"}, {"y: float", "inv: float"}, rmsNorm},
      {"MoebiusRmsNormGrad",
       {"x: float", "weight: float", "inv: float", "dy: float"},
       {},
       {"dx: float", "dweight: float"},
       rmsNormGrad},
      {"MoebiusRmsNormGradAdd",
       {"x: float", "weight: float", "inv: float", "dy: float", "residual: float"},
       {},
       {"dx: float", "dweight: float"},
       rmsNormGradAdd},
      {"MoebiusHeadNormRope",
       {"x: float", "weight: float", "cos: float", "sin: float", "positions: int32"},
       {"heads: int", "epsilon: float"},
       {"y: float", "inv: float"},
       headNormRope},
      {"MoebiusHeadNormRopeGrad",
       {"x: float", "weight: float", "cos: float", "sin: float", "positions: int32", "inv: float", "dy: float"},
       {"heads: int"},
       {"dx: float", "dweight: float"},
       headNormRopeGrad},
  };
}

}  // namespace moebius

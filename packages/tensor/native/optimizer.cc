/**
 * @file AdamW on a list of variables, in place, and the global norm of a list of tensors.
 *
 * AdamW with decoupled decay: g' = scale · g; m = β1 m + (1−β1) g'; v = β2 v + (1−β2) g'²;
 * p = p (1 − lr · decay) − lr / (1−β1ᵗ) · m / (sqrt(v / (1−β2ᵗ)) + ε).
 * A variable whose buffer a read still holds is copied first (TensorFlow's rule), so held reads keep their old value.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel.h"
#include "vector.h"

namespace moebius {

namespace {

constexpr int64_t kChunk = 16384;

/// Elements [begin, end) of list member `index`.
struct Span {
  int index;
  int64_t begin;
  int64_t end;
};

std::vector<Span> spansOf(const std::vector<int64_t>& sizes) {
  std::vector<Span> spans;
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (int64_t at = 0; at < sizes[i]; at += kChunk) {
      spans.push_back({static_cast<int>(i), at, std::min(sizes[i], at + kChunk)});
    }
  }
  return spans;
}

typedef float HalfVector __attribute__((vector_size(kWidth * 2), aligned(4), may_alias));
typedef double DoubleVector __attribute__((vector_size(kWidth * 4)));

/// The sum of squares in double precision.
double sumOfSquares(const float* x, int64_t count) {
  constexpr int kLanes = kWidth / 2, kChains = 4;
  DoubleVector total[kChains] = {};
  int64_t i = 0;
  for (; i + kChains * kLanes <= count; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) {
      const HalfVector narrow = *reinterpret_cast<const HalfVector*>(x + i + chain * kLanes);
      const DoubleVector wide = __builtin_convertvector(narrow, DoubleVector);
      total[chain] += wide * wide;
    }
  }
  const DoubleVector lanes = (total[0] + total[1]) + (total[2] + total[3]);
  double result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result += lanes[lane];
  for (; i < count; ++i) result += static_cast<double>(x[i]) * x[i];
  return result;
}

void globalNorm(Context& context) {
  const int count = static_cast<int>(context.integer("count"));
  std::vector<const float*> data;
  std::vector<int64_t> sizes;
  for (int i = 0; i < count; ++i) {
    const Floats x = context.floats(i);
    data.push_back(x.data);
    sizes.push_back(x.size);
  }
  const std::vector<Span> spans = spansOf(sizes);
  std::vector<double> sums(spans.size());
  parallelRanges(context, static_cast<int64_t>(spans.size()), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      sums[i] = sumOfSquares(data[spans[i].index] + spans[i].begin, spans[i].end - spans[i].begin);
    }
  });
  double total = 0;
  for (double part : sums) total += part;
  float* out = context.output(0, {2});
  out[0] = static_cast<float>(total);
  out[1] = std::isfinite(total) ? 1.0f : 0.0f;
}

struct Adam {
  float beta1, beta2, epsilon, step, correction, keep, scale;
};

Vector adamStep(Vector p, Vector& m, Vector& v, Vector g, const Adam& a) {
  g = g * broadcast(a.scale);
  m = broadcast(a.beta1) * m + broadcast(1.0f - a.beta1) * g;
  v = broadcast(a.beta2) * v + broadcast(1.0f - a.beta2) * (g * g);
  const Vector root = squareRoot(v * broadcast(a.correction));
  return p * broadcast(a.keep) - broadcast(a.step) * m / (root + broadcast(a.epsilon));
}

void adamSpan(float* p, float* m, float* v, const float* g, int64_t count, const Adam& adam) {
  for (int64_t i = 0; i < count; i += kWidth) {
    const int64_t rest = count - i;
    const bool whole = rest >= kWidth;
    Vector mean = whole ? load(m + i) : loadPart(m + i, rest), square = whole ? load(v + i) : loadPart(v + i, rest);
    const Vector slope = whole ? load(g + i) : loadPart(g + i, rest);
    const Vector value = adamStep(whole ? load(p + i) : loadPart(p + i, rest), mean, square, slope, adam);
    if (whole) {
      store(m + i, mean);
      store(v + i, square);
      store(p + i, value);
    } else {
      storePart(m + i, mean, rest);
      storePart(v + i, square, rest);
      storePart(p + i, value, rest);
    }
  }
}

void adamW(Context& context) {
  const int count = static_cast<int>(context.integer("count"));
  std::vector<const float*> gradients;
  std::vector<int64_t> sizes;
  for (int i = 0; i < count; ++i) {
    const Floats g = context.floats(3 * count + i);
    gradients.push_back(g.data);
    sizes.push_back(g.size);
  }
  const Floats hyper = floatInput(context, 4 * count, "hyper", {6});
  const Floats scale = floatInput(context, 4 * count + 1, "scale", {1});
  const Floats decay = floatInput(context, 4 * count + 2, "decay", {count});
  std::vector<int> inputs;
  for (int i = 0; i < 3 * count; ++i) inputs.push_back(i);
  const std::vector<Variable> variables = context.variables(inputs);
  for (int i = 0; i < 3 * count; ++i) {
    require(variables[i].size == sizes[i % count], "variable ", i, ": must have ", sizes[i % count],
            " elements like its gradient, got ", variables[i].size);
  }
  const float lr = hyper.data[0];
  Adam adam = {hyper.data[3], hyper.data[4], hyper.data[5], lr / (1.0f - hyper.data[1]), 1.0f / (1.0f - hyper.data[2]),
               1.0f, scale.data[0]};
  const std::vector<Span> spans = spansOf(sizes);
  parallelRanges(context, static_cast<int64_t>(spans.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Span& span = spans[i];
      Adam own = adam;
      own.keep = 1.0f - lr * decay.data[span.index];
      adamSpan(variables[span.index].data + span.begin, variables[count + span.index].data + span.begin,
               variables[2 * count + span.index].data + span.begin, gradients[span.index] + span.begin,
               span.end - span.begin, own);
    }
  });
}

}  // namespace

std::vector<Kernel> optimizerKernels() {
  return {
      {"MoebiusGlobalNorm", {"x: count * float"}, {"count: int >= 1"}, {"out: float"}, globalNorm},
      {"MoebiusAdamW",
       {"variable: count * resource", "m: count * resource", "v: count * resource", "g: count * float",
        "hyper: float", "scale: float", "decay: float"},
       {"count: int >= 1"},
       {},
       adamW},
  };
}

}  // namespace moebius

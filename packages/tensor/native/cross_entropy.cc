/**
 * @file Softmax cross-entropy with its own gradient, z-loss and an ignored target.
 *
 * Per row, with lse = log sum exp(logits): loss = lse − logits[target], z = lse²; the gradient is that of the *sum* of
 * loss + zLoss · z: softmax · (1 + 2 · zLoss · lse) − onehot, times gradient_scale (1 / counted targets makes it that of the mean).
 * Ignored rows give zeros everywhere.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>
#include <cmath>

#include "kernel.h"
#include "softmax.h"
#include "vector.h"

namespace moebius {

namespace {

void softmaxCrossEntropy(Context& context) {
  const Floats logits = floatInput(context, 0, "logits", {-1, -1});
  const int64_t T = logits.dims[0], V = logits.dims[1];
  const Ints targets = intInput(context, 1, "targets", {T});
  const int64_t ignored = context.integer("ignore_index");
  const float zLoss = context.number("z_loss"), gradientScale = context.number("gradient_scale");
  for (int64_t t = 0; t < T; ++t) {
    const int32_t target = targets.data[t];
    require(target == ignored || (target >= 0 && target < V), "targets[", t, "]: must be in [0, ", V, ") or ", ignored,
            ", got ", target);
  }
  float* loss = context.output(0, {T});
  float* z = context.output(1, {T});
  float* gradient = context.output(2, {T, V});
  parallelRanges(context, T, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, V)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t target = targets.data[t];
      float* row = gradient + t * V;
      if (target == ignored) {
        std::fill_n(row, V, 0.0f);
        loss[t] = z[t] = 0.0f;
        continue;
      }
      const float* from = logits.data + t * V;
      const SoftmaxSum total = exponentials(from, row, V);
      const float lse = total.maximum + std::log(total.sum);
      loss[t] = lse - from[target];
      z[t] = lse * lse;
      scale(row, gradientScale * (1.0f + 2.0f * zLoss * lse) / total.sum, V);
      row[target] -= gradientScale;
    }
  });
}

}  // namespace

std::vector<Kernel> crossEntropyKernels() {
  return {{"MoebiusSoftmaxCrossEntropy",
           {"logits: float", "targets: int32"},
           {"ignore_index: int", "z_loss: float", "gradient_scale: float = 1.0"},
           {"loss: float", "z: float", "dlogits: float"},
           softmaxCrossEntropy}};
}

}  // namespace moebius

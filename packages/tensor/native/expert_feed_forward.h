/**
 * @file Gated experts over routed rows, shared by expert_feed_forward.cc and decode.cc.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_EXPERT_FEED_FORWARD_H_
#define MOEBIUS_EXPERT_FEED_FORWARD_H_

#include <cstdint>
#include <vector>

#include "activation.h"
#include "kernel.h"
#include "row_plan.h"

namespace moebius {

/// Rows x[T,D], their plan and pair weights, and every expert's gate, up and down [F,D].
struct Experts {
  RowPlan plan;
  int64_t D = 0, F = 0;
  Activation activation = Activation::kSilu;
  const float* x = nullptr;
  const float* weights = nullptr;
  std::vector<const float*> gate, up, down;
};

/// Where a forward pass writes: g, u [N,F] and y[T,D] = residual (may be null) + the weighted sum of experts.
struct ExpertOutputs {
  float* g;
  float* u;
  const float* residual;
  float* y;
};

void forwardExperts(Context& context, const Experts& in, const ExpertOutputs& out);

}  // namespace moebius

#endif  // MOEBIUS_EXPERT_FEED_FORWARD_H_

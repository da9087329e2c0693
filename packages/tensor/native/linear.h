/**
 * @file Linear layers on every core: the products behind linear.cc and the fused decoding kernels.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_LINEAR_H_
#define MOEBIUS_LINEAR_H_

#include <cstdint>
#include <vector>

#include "few_rows.h"
#include "gemm.h"
#include "kernel.h"

namespace moebius {

/// A weight [outputs, I] and where its product [rows, outputs] goes.
struct LinearWeight {
  const float* data;
  int64_t outputs;
  float* out;
};

/// out_l[rows, O_l] = x[rows, I] · W_lᵀ for all weights; few rows stream the weights once.
void applyLinear(Context& context, const float* x, int64_t rowCount, int64_t I,
                 const std::vector<LinearWeight>& weights);

/// Rows per task, so that `columnBlocks` column blocks times row parts keep all threads busy.
int64_t rowStep(int64_t rowCount, int64_t columnBlocks, int threads);

}  // namespace moebius

#endif  // MOEBIUS_LINEAR_H_

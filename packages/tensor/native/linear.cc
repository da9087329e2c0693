/**
 * @file Linear layers that share one input: y_l = x · W_lᵀ for a list of weights, its gradient, and decoding variants.
 *
 * Query, key and value projections are one call: x is read once and the work of all weights is balanced over threads.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include "linear.h"

#include <algorithm>
#include <vector>

#include "kernel.h"

namespace moebius {

namespace {

/// The weights of a list input, all [O_l, I].
std::vector<LinearWeight> readWeights(Context& context, int first, int64_t count, int64_t I) {
  std::vector<LinearWeight> weights;
  for (int64_t l = 0; l < count; ++l) {
    const Floats weight = floatInput(context, first + static_cast<int>(l), "weight", {-1, I});
    weights.push_back({weight.data, weight.dims[0], nullptr});
  }
  return weights;
}

void linear(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  std::vector<LinearWeight> weights = readWeights(context, 1, context.integer("count"), x.dims[1]);
  for (size_t l = 0; l < weights.size(); ++l) {
    weights[l].out = context.output(static_cast<int>(l), {x.dims[0], weights[l].outputs});
  }
  applyLinear(context, x.data, x.dims[0], x.dims[1], weights);
}

void linearAdd(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  std::vector<LinearWeight> weights = readWeights(context, 1, 1, x.dims[1]);
  const Floats residual = floatInput(context, 2, "residual", {x.dims[0], weights[0].outputs});
  weights[0].out = context.output(0, {x.dims[0], weights[0].outputs});
  applyLinear(context, x.data, x.dims[0], x.dims[1], weights);
  parallelRanges(context, residual.size, 32768, [&](int64_t begin, int64_t end) {
    addScaled(weights[0].out + begin, residual.data + begin, 1.0f, end - begin);
  });
}

void linearGrad(Context& context) {
  const Floats x = floatInput(context, 0, "x", {-1, -1});
  const int64_t T = x.dims[0], I = x.dims[1], count = context.integer("count");
  const std::vector<LinearWeight> weights = readWeights(context, 1, count, I);
  std::vector<const float*> slopes;
  std::vector<float*> gradients;
  float* dx = context.output(0, {T, I});
  struct Block {
    int64_t weight, row, column, height;
  };
  std::vector<Block> blocks;
  for (int64_t l = 0; l < count; ++l) {
    const int64_t O = weights[l].outputs;
    slopes.push_back(floatInput(context, static_cast<int>(1 + count + l), "dy", {T, O}).data);
    gradients.push_back(context.output(static_cast<int>(1 + l), {O, I}));
    for (int64_t o = 0; o < O; o += kBlockRows) {
      for (int64_t i = 0; i < I; i += kBlockColumns) blocks.push_back({l, o, i, std::min(kBlockRows, O - o)});
    }
  }
  const int64_t columnBlocks = (I + kBlockColumns - 1) / kBlockColumns;
  const int64_t step = rowStep(T, columnBlocks, context.threads());
  const int64_t rowParts = (T + step - 1) / step;
  const int64_t first = columnBlocks * rowParts;
  parallel(context, first + static_cast<int64_t>(blocks.size()), [&](int64_t task) {
    if (task < first) {
      const int64_t row = task / columnBlocks * step, column = task % columnBlocks * kBlockColumns;
      for (int64_t l = 0; l < count; ++l) {
        const int64_t O = weights[l].outputs;
        multiply(std::min(step, T - row), std::min(kBlockColumns, I - column), O, rows(slopes[l] + row * O, O),
                 rows(weights[l].data + column, I), {dx + row * I + column, I, l > 0});
      }
      return;
    }
    const Block& block = blocks[task - first];
    const int64_t O = weights[block.weight].outputs;
    multiply(block.height, std::min(kBlockColumns, I - block.column), T,
             transposed(slopes[block.weight] + block.row, O), rows(x.data + block.column, I),
             {gradients[block.weight] + block.row * I + block.column, I});
  });
}

}  // namespace

int64_t rowStep(int64_t rowCount, int64_t columnBlocks, int threads) {
  if (threads == 1) return std::max<int64_t>(1, rowCount);
  const int64_t wanted = (threads * 4 + columnBlocks - 1) / std::max<int64_t>(1, columnBlocks);
  const int64_t parts = std::max<int64_t>(1, std::min(wanted, (rowCount + kBlockRows - 1) / kBlockRows));
  const int64_t step = (rowCount + parts - 1) / parts;
  return std::max<int64_t>(kTileRows, (step + kTileRows - 1) / kTileRows * kTileRows);
}

void applyLinear(Context& context, const float* x, int64_t rowCount, int64_t I,
                 const std::vector<LinearWeight>& weights) {
  struct Block {
    int64_t weight, column, width;
  };
  std::vector<Block> blocks;
  const bool few = rowCount <= kFewRows;
  int64_t total = 0;
  for (const LinearWeight& weight : weights) total += weight.outputs;
  const int64_t share = (total + context.threads() * 4 - 1) / (context.threads() * 4);
  const int64_t width = few ? std::max<int64_t>(32, (share + 15) / 16 * 16) : kBlockColumns;
  for (size_t l = 0; l < weights.size(); ++l) {
    for (int64_t c = 0; c < weights[l].outputs; c += width) {
      blocks.push_back({static_cast<int64_t>(l), c, std::min(width, weights[l].outputs - c)});
    }
  }
  const int64_t columnBlocks = static_cast<int64_t>(blocks.size());
  const int64_t step = few ? std::max<int64_t>(1, rowCount) : rowStep(rowCount, columnBlocks, context.threads());
  const int64_t rowParts = (rowCount + step - 1) / step;
  parallel(context, columnBlocks * rowParts, [&](int64_t task) {
    const Block& block = blocks[task % columnBlocks];
    const LinearWeight& weight = weights[block.weight];
    const int64_t row = task / columnBlocks * step, count = std::min(step, rowCount - row);
    float* out = weight.out + row * weight.outputs + block.column;
    const float* from = weight.data + block.column * I;
    if (!few) {
      multiply(count, block.width, I, moebius::rows(x + row * I, I), transposed(from, I), {out, weight.outputs});
      return;
    }
    const float* input[kFewRows];
    for (int64_t r = 0; r < count; ++r) input[r] = x + (row + r) * I;
    multiplyFewRowsTransposed(input, count, from, I, block.width, I, out, weight.outputs);
  });
}

std::vector<Kernel> linearKernels() {
  return {
      {"MoebiusLinear", {"x: float", "weight: count * float"}, {"count: int >= 1"}, {"y: count * float"}, linear},
      {"MoebiusLinearAdd", {"x: float", "weight: float", "residual: float"}, {}, {"y: float"}, linearAdd},
      {"MoebiusLinearGrad",
       {"x: float", "weight: count * float", "dy: count * float"},
       {"count: int >= 1"},
       {"dx: float", "dweight: count * float"},
       linearGrad},
  };
}

}  // namespace moebius

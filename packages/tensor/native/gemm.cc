/**
 * @file The packed matrix product behind gemm.h: packing, register tiles and the loop over blocks.
 *
 * Loops, outermost first: columns of B (kBlockColumns) → depth (kBlockDepth, B packed here) → rows of A (kBlockRows) →
 * panels of B → tiles of A. A tile keeps its sums in registers over one depth block.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include "gemm.h"

#include <algorithm>

#include "scratch.h"

namespace moebius {

namespace {

/// acc[r][v] over one depth block; `a[r]` are row pointers (step 1) or one packed panel (`a[0]`, step kTileRows).
template <int R, int V, bool kPacked>
inline __attribute__((always_inline)) void accumulateTile(int64_t depth, const float* const* a, const float* b,
                                                          Vector (&acc)[R][V]) {
  const float* row[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) row[r] = kPacked ? a[0] : a[r];
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = load(b + v * kWidth);
    b += V * kWidth;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Vector left = broadcast(kPacked ? row[0][r] : row[r][k]);
#if defined(MOEBIUS_AVX512)
      // Keep the value in a register: folded into each product as a memory operand it would be loaded V times.
      __asm__("" : "+v"(left));
#endif
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] += left * right[v];
    }
    if (kPacked) row[0] += kTileRows;
  }
}

template <int R, int V, bool kPacked>
void tile(int64_t depth, const float* const* a, const float* b, const Result& c, bool accumulate, int64_t columns) {
  Vector acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = Vector{};
  }
  accumulateTile<R, V, kPacked>(depth, a, b, acc);
  const Vector alpha = broadcast(c.alpha);
  if (columns == V * kWidth) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      float* out = c.data + r * c.stride;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const Vector value = alpha * acc[r][v];
        store(out + v * kWidth, accumulate ? load(out + v * kWidth) + value : value);
      }
    }
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* out = c.data + r * c.stride;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int64_t count = std::min<int64_t>(kWidth, columns - v * kWidth);
      const Vector value = alpha * acc[r][v];
      storePart(out + v * kWidth, accumulate ? loadPart(out + v * kWidth, count) + value : value, count);
    }
  }
}

using TileFunction = void (*)(int64_t, const float* const*, const float*, const Result&, bool, int64_t);

template <int V, bool kPacked>
inline TileFunction tileOfRows(int64_t count) {
  switch (count) {
    case 1: return tile<1, V, kPacked>;
    case 2: return tile<2, V, kPacked>;
    case 3: return tile<3, V, kPacked>;
    case 4: return tile<4, V, kPacked>;
    case 5: return tile<5, V, kPacked>;
    default: return tile<6, V, kPacked>;
  }
}

template <bool kPacked>
inline TileFunction chooseTile(int64_t rowCount, int64_t vectors) {
  switch (vectors) {
    case 1: return tileOfRows<1, kPacked>(rowCount);
#if defined(MOEBIUS_AVX512) || defined(__aarch64__)
    case 2: return tileOfRows<2, kPacked>(rowCount);
    case 3: return tileOfRows<3, kPacked>(rowCount);
#endif
    default: return tileOfRows<kTileVectors, kPacked>(rowCount);
  }
}

/// Transposes a kWidth × kWidth square: to[k * toStride + n] = from[n][k].
inline void transposeSquare(const float* const* from, float* to, int64_t toStride) {
  Vector lane[kWidth], next[kWidth];
  for (int n = 0; n < kWidth; ++n) lane[n] = load(from[n]);
  // After each round, lane[i] holds the interleaving of rows i and i + width/2 (a perfect shuffle): log2(width) rounds.
  IntVector low, high;
  for (int i = 0; i < kWidth; ++i) {
    low[i] = i / 2 + (i % 2) * kWidth;
    high[i] = i / 2 + kWidth / 2 + (i % 2) * kWidth;
  }
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; ++i) {
#if defined(__clang__)
      for (int j = 0; j < kWidth; ++j) {
        const Vector& source = j % 2 ? lane[i + kWidth / 2] : lane[i];
        next[2 * i][j] = source[j / 2];
        next[2 * i + 1][j] = source[j / 2 + kWidth / 2];
      }
#else
      next[2 * i] = __builtin_shuffle(lane[i], lane[i + kWidth / 2], low);
      next[2 * i + 1] = __builtin_shuffle(lane[i], lane[i + kWidth / 2], high);
#endif
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) lane[i] = next[i];
  }
  for (int k = 0; k < kWidth; ++k) store(to + k * toStride, lane[k]);
}

/// Packs B[k0 : k0+depth, n0 : n0+columns] into panels [depth][panel width], zero-padded to whole vectors.
inline void packRight(const Operand& b, int64_t k0, int64_t depth, int64_t n0, int64_t columns, float* to) {
  for (int64_t n = 0; n < columns; n += kTileColumns) {
    const int64_t count = std::min<int64_t>(kTileColumns, columns - n);
    const int64_t width = (count + kWidth - 1) / kWidth * kWidth;
    if (!b.transposed) {
      for (int64_t k = 0; k < depth; ++k) {
        const float* from = b.row(k0 + k) + n0 + n;
        float* out = to + k * width;
        int64_t i = 0;
        for (; i + kWidth <= count; i += kWidth) store(out + i, load(from + i));
        if (i < count) store(out + i, loadPart(from + i, count - i));
      }
    } else {
      for (int64_t v = 0; v < width; v += kWidth) {
        const int64_t lanes = std::min<int64_t>(kWidth, count - v);
        const float* from[kWidth];
        for (int64_t i = 0; i < kWidth; ++i) from[i] = b.row(n0 + n + v + std::min(i, lanes - 1)) + k0;
        int64_t k = 0;
        for (; k + kWidth <= depth; k += kWidth) {
          transposeSquare(from, to + k * width + v, width);
          for (int i = 0; i < kWidth; ++i) from[i] += kWidth;
        }
        for (int64_t i = 0; i < kWidth; ++i) {
          for (int64_t rest = k; rest < depth; ++rest) to[rest * width + v + i] = from[i][rest - k];
        }
      }
    }
    to += depth * width;
  }
}

/// Floats between packed panels of A: a panel, and room for the last eight-float store to run over its end.
inline int64_t leftPanelStride(int64_t depth) { return depth * kTileRows + 8; }

/// Packs the transposed A[m0 : m0+count, k0 : k0+depth] into panels [depth][kTileRows]; short last panels stay ragged.
inline void packLeft(const Operand& a, int64_t m0, int64_t count, int64_t k0, int64_t depth, float* to) {
  typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
  constexpr int64_t kStrip = 16;  // rows of A per sweep: few enough to stay in L1, enough to write whole lines
  const int64_t panelStride = leftPanelStride(depth);
  for (int64_t strip = 0; strip < depth; strip += kStrip) {
    const int64_t end = std::min(depth, strip + kStrip);
    const float* from[kStrip];
    for (int64_t k = strip; k < end; ++k) from[k - strip] = a.row(k0 + k) + m0;
    float* panel = to + strip * kTileRows;
    int64_t m = 0;
    for (; m + 8 <= count; m += kTileRows, panel += panelStride) {
      for (int64_t k = 0; k < end - strip; ++k) {
        *reinterpret_cast<Eight*>(panel + k * kTileRows) = *reinterpret_cast<const Eight*>(from[k] + m);
      }
    }
    for (; m < count; m += kTileRows, panel += panelStride) {
      const size_t bytes = static_cast<size_t>(std::min<int64_t>(kTileRows, count - m)) * sizeof(float);
      for (int64_t k = 0; k < end - strip; ++k) std::memcpy(panel + k * kTileRows, from[k] + m, bytes);
    }
  }
}

}  // namespace

void multiply(int64_t M, int64_t N, int64_t K, const Operand& a, const Operand& b, const Result& c) {
  if (K == 0) {
    for (int64_t m = 0; m < M && !c.accumulate; ++m) std::fill_n(c.data + m * c.stride, N, 0.0f);
    return;
  }
  Scratch& scratch = Scratch::ofThisThread();
  float* right = scratch.get(Scratch::kPackedRight, kBlockDepth * (kBlockColumns + kWidth));
  float* left = a.transposed ? scratch.get(Scratch::kPackedLeft, leftPanelStride(kBlockDepth) * (kBlockRows / kTileRows + 1)) : nullptr;
  const int64_t depthBlocks = (K + kBlockDepth - 1) / kBlockDepth;
  const int64_t depthStep = (K + depthBlocks - 1) / depthBlocks;
  for (int64_t n0 = 0; n0 < N; n0 += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, N - n0);
    for (int64_t k0 = 0; k0 < K; k0 += depthStep) {
      const int64_t depth = std::min(depthStep, K - k0);
      const bool accumulate = c.accumulate || k0 > 0;
      packRight(b, k0, depth, n0, columns, right);
      for (int64_t m0 = 0; m0 < M; m0 += kBlockRows) {
        const int64_t count = std::min(kBlockRows, M - m0);
        if (a.transposed) packLeft(a, m0, count, k0, depth, left);
        const float* panel = right;
        for (int64_t n = 0; n < columns; n += kTileColumns) {
          const int64_t width = std::min<int64_t>(kTileColumns, columns - n);
          const int64_t vectors = (width + kWidth - 1) / kWidth;
          for (int64_t m = 0; m < count; m += kTileRows) {
            const int64_t height = std::min<int64_t>(kTileRows, count - m);
            const float* from[kTileRows];
            Result out = c;
            out.data = c.data + (m0 + m) * c.stride + n0 + n;
            if (a.transposed) {
              from[0] = left + m / kTileRows * leftPanelStride(depth);
              chooseTile<true>(height, vectors)(depth, from, panel, out, accumulate, width);
            } else {
              for (int64_t r = 0; r < height; ++r) from[r] = a.row(m0 + m + r) + k0;
              chooseTile<false>(height, vectors)(depth, from, panel, out, accumulate, width);
            }
          }
          panel += depth * vectors * kWidth;
        }
      }
    }
  }
}

}  // namespace moebius

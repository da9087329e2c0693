/**
 * @file Matrix products of float32 matrices: C = alpha * A · B (+ C), single-threaded blocks.
 *
 * The register tile is `kTileRows` × `kTileColumns` (6 × 64 on AVX-512). B is packed into panels of `kTileColumns`
 * columns, so that every access of the inner loop is contiguous; A is read through one pointer per row, so that rows may
 * be *gathered* (an expert's tokens) without ever being copied. A transposed A is packed instead. The order of additions
 * depends on K only, never on threads or on how the work is cut, so results are reproducible bit for bit.
 *
 * An operand's `index` gathers its *stored* rows: row i of the stored matrix is `data + index[i] * stride`.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_GEMM_H_
#define MOEBIUS_GEMM_H_

#include <cstdint>

#include "vector.h"

namespace moebius {

#if defined(MOEBIUS_AVX512) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif
constexpr int kTileRows = 6;
constexpr int kTileColumns = kTileVectors * kWidth;
/// Block sizes: a B panel (kBlockDepth × kTileColumns) stays near L1, a packed B block and a row block of A in L2.
constexpr int64_t kBlockDepth = 256;
constexpr int64_t kBlockColumns = 256;
constexpr int64_t kBlockRows = 240;

/// One factor of a product, as stored: row-major, rows of `stride` floats, possibly gathered, possibly transposed.
struct Operand {
  const float* data;
  int64_t stride;
  const int32_t* index = nullptr;
  bool transposed = false;

  const float* row(int64_t i) const { return data + (index ? index[i] : i) * stride; }
};

inline Operand rows(const float* data, int64_t stride, const int32_t* index = nullptr) {
  return {data, stride, index, false};
}
inline Operand transposed(const float* data, int64_t stride, const int32_t* index = nullptr) {
  return {data, stride, index, true};
}

/// What happens to a finished tile: C = alpha * tile, or C += alpha * tile.
struct Result {
  float* data;
  int64_t stride;
  bool accumulate = false;
  float alpha = 1.0f;
};

/**
 * C[M,N] = alpha * A[M,K] · B[K,N], or += with `c.accumulate`, on the calling thread. K = 0 gives zeros.
 */
void multiply(int64_t M, int64_t N, int64_t K, const Operand& a, const Operand& b, const Result& c);

}  // namespace moebius

#endif  // MOEBIUS_GEMM_H_

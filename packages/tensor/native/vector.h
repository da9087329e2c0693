/**
 * @file SIMD vectors through GCC/Clang vector extensions, and the exponential built on them.
 *
 * One source for every instruction set: the compiler flag (`-march=…`) decides the width, 16 floats on AVX-512, 8 on AVX,
 * 4 on NEON and SSE. `Vector` arithmetic is element-wise; `load`/`store` need no alignment; the `…Part` versions touch
 * only `count` elements and read zeros beyond.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_VECTOR_H_
#define MOEBIUS_VECTOR_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

// Clang 18 to 21 may have AVX-512 with 512-bit registers switched off; it says so by not defining __EVEX512__.
#if defined(__AVX512F__) && \
    (!defined(__clang__) || defined(__EVEX512__) || __clang_major__ < 18 || __clang_major__ >= 22)
#define MOEBIUS_AVX512 1
#endif

namespace moebius {

#if defined(MOEBIUS_AVX512)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vector __attribute__((vector_size(kWidth * 4)));
typedef int32_t IntVector __attribute__((vector_size(kWidth * 4)));
typedef float UnalignedVector __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const UnalignedVector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<UnalignedVector*>(to) = value; }

inline Vector broadcast(float value) {
#if defined(MOEBIUS_AVX512)
  return Vector{value, value, value, value, value, value, value, value,
                value, value, value, value, value, value, value, value};
#elif defined(__AVX__)
  return Vector{value, value, value, value, value, value, value, value};
#else
  return Vector{value, value, value, value};
#endif
}

/// The first `count` (≤ width) floats, zeros beyond.
inline Vector loadPart(const float* from, int64_t count) {
  Vector value = {};
  std::memcpy(&value, from, static_cast<size_t>(count) * sizeof(float));
  return value;
}

inline void storePart(float* to, Vector value, int64_t count) {
  std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
}

/// Sum of the lanes, always in the same (pairwise) order.
inline float sum(Vector value) {
  float lanes[kWidth];
  std::memcpy(lanes, &value, sizeof(lanes));
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

inline float maximum(Vector value) {
  float best = value[0];
  for (int i = 1; i < kWidth; ++i) best = value[i] > best ? value[i] : best;
  return best;
}

inline Vector maximum(Vector a, Vector b) { return a > b ? a : b; }

inline Vector squareRoot(Vector value) {
#if defined(MOEBIUS_AVX512)
  return reinterpret_cast<Vector>(_mm512_sqrt_ps(reinterpret_cast<__m512>(value)));
#elif defined(__AVX__)
  return reinterpret_cast<Vector>(_mm256_sqrt_ps(reinterpret_cast<__m256>(value)));
#else
  for (int i = 0; i < kWidth; ++i) value[i] = std::sqrt(value[i]);
  return value;
#endif
}

/**
 * e^x. Cody-Waite reduction by ln 2 and a degree-6 polynomial; error below 2 units in the last place on [-87.3, 88.3]
 * (measured by the tests), 0 below that range, +infinity above, NaN for NaN.
 */
inline Vector exponential(Vector x) {
  const Vector low = broadcast(-87.33654f), high = broadcast(88.72283f);
  const Vector magic = broadcast(12582912.0f);
  Vector bounded = x < low ? low : x;
  bounded = bounded > high ? high : bounded;
  const Vector shifted = bounded * broadcast(1.44269504088896341f) + magic;
  const Vector n = shifted - magic;
  Vector r = bounded - n * broadcast(0.693359375f);
  r = r - n * broadcast(-2.12194440e-4f);
  Vector p = broadcast(1.9875691500e-4f);
  p = p * r + broadcast(1.3981999507e-3f);
  p = p * r + broadcast(8.3334519073e-3f);
  p = p * r + broadcast(4.1665795894e-2f);
  p = p * r + broadcast(1.6666665459e-1f);
  p = p * r + broadcast(5.0000001201e-1f);
  p = p * (r * r) + r + broadcast(1.0f);
  // 2^n in two factors, so that n = 128 (x near 88.7) does not overflow the exponent field.
  const IntVector bits = reinterpret_cast<IntVector>(shifted) - reinterpret_cast<IntVector>(magic);
  const IntVector half = bits >> 1;
  const Vector first = reinterpret_cast<Vector>((half + 127) << 23);
  const Vector second = reinterpret_cast<Vector>((bits - half + 127) << 23);
  Vector result = p * first * second;
  result = x < low ? broadcast(0.0f) : result;
  result = x > high ? broadcast(__builtin_inff()) : result;
  return x == x ? result : x;
}

/// 1 / (1 + e^-x).
inline Vector sigmoid(Vector x) { return broadcast(1.0f) / (broadcast(1.0f) + exponential(-x)); }

inline float dot(const float* a, const float* b, int64_t count) {
  Vector s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + kWidth) * load(b + i + kWidth);
    s2 += load(a + i + 2 * kWidth) * load(b + i + 2 * kWidth);
    s3 += load(a + i + 3 * kWidth) * load(b + i + 3 * kWidth);
  }
  for (; i + kWidth <= count; i += kWidth) s0 += load(a + i) * load(b + i);
  if (i < count) s1 += loadPart(a + i, count - i) * loadPart(b + i, count - i);
  return sum((s0 + s1) + (s2 + s3));
}

/// y += alpha * x.
inline void addScaled(float* y, const float* x, float alpha, int64_t count) {
  const Vector scale = broadcast(alpha);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(y + i, load(y + i) + scale * load(x + i));
  for (; i < count; ++i) y[i] += alpha * x[i];
}

}  // namespace moebius

#endif  // MOEBIUS_VECTOR_H_

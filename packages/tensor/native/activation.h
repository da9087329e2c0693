/**
 * @file Activation functions of feed-forward layers and their derivatives: SiLU, GELU (exact by erf, and
 * its tanh approximation), ReLU.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_ACTIVATION_H_
#define MOEBIUS_ACTIVATION_H_

#include <string>

#include "kernel.h"
#include "vector.h"

namespace moebius {

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };

inline Activation activationOf(const std::string& name) {
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  require(name == "relu", "activation: must be silu, gelu, gelu_tanh or relu, got ", name);
  return Activation::kRelu;
}

struct Activated {
  Vector value;
  Vector slope;
};

/// erf by Abramowitz and Stegun 7.1.26: absolute error below 2e-7, the same formula as TensorFlow.js's own backends.
inline Vector errorFunction(Vector x) {
  const Vector one = broadcast(1.0f), zero = {};
  const Vector size = x < zero ? -x : x;
  const Vector t = one / (one + broadcast(0.3275911f) * size);
  Vector p = broadcast(1.061405429f);
  p = p * t + broadcast(-1.453152027f);
  p = p * t + broadcast(1.421413741f);
  p = p * t + broadcast(-0.284496736f);
  p = p * t + broadcast(0.254829592f);
  const Vector y = one - p * t * exponential(-size * size);
  return x < zero ? -y : y;
}

/// tanh(sqrt(2/π) (x + 0.044715 x³)) by the exponential.
inline Vector geluTanh(Vector x) {
  const Vector one = broadcast(1.0f), two = broadcast(2.0f);
  const Vector inner = broadcast(0.79788456080286536f) * (x + broadcast(0.044715f) * x * x * x);
  return one - two / (one + exponential(two * inner));
}

template <Activation kind>
inline Vector activate(Vector x) {
  const Vector zero = {};
  if constexpr (kind == Activation::kSilu) return x * sigmoid(x);
  if constexpr (kind == Activation::kGelu) {
    return broadcast(0.5f) * x * (broadcast(1.0f) + errorFunction(x * broadcast(0.70710678118654752f)));
  }
  if constexpr (kind == Activation::kGeluTanh) return broadcast(0.5f) * x * (broadcast(1.0f) + geluTanh(x));
  return x > zero ? x : zero;
}

template <Activation kind>
inline Activated activateWithSlope(Vector x) {
  const Vector one = broadcast(1.0f), zero = {};
  if constexpr (kind == Activation::kSilu) {
    const Vector s = sigmoid(x);
    return {x * s, s * (one + x * (one - s))};
  }
  if constexpr (kind == Activation::kGelu) {
    const Vector cdf = broadcast(0.5f) * (one + errorFunction(x * broadcast(0.70710678118654752f)));
    const Vector density = broadcast(0.39894228040143268f) * exponential(broadcast(-0.5f) * x * x);
    return {x * cdf, cdf + x * density};
  }
  if constexpr (kind == Activation::kGeluTanh) {
    const Vector t = geluTanh(x), half = broadcast(0.5f);
    const Vector inner = broadcast(0.79788456080286536f) * (one + broadcast(3.0f * 0.044715f) * x * x);
    return {half * x * (one + t), half * (one + t) + half * x * (one - t * t) * inner};
  }
  return {x > zero ? x : zero, x > zero ? one : zero};
}

/// Calls fn with the activation as a compile-time constant.
template <typename Fn>
inline void withActivation(Activation kind, Fn fn) {
  switch (kind) {
    case Activation::kSilu: return fn(std::integral_constant<Activation, Activation::kSilu>());
    case Activation::kGelu: return fn(std::integral_constant<Activation, Activation::kGelu>());
    case Activation::kGeluTanh: return fn(std::integral_constant<Activation, Activation::kGeluTanh>());
    case Activation::kRelu: return fn(std::integral_constant<Activation, Activation::kRelu>());
  }
}

/// h = activation(g) * u.
inline void gate(Activation kind, const float* g, const float* u, float* h, int64_t count) {
  withActivation(kind, [&](auto activation) {
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(h + i, activate<activation()>(load(g + i)) * load(u + i));
    if (i < count) {
      const int64_t rest = count - i;
      storePart(h + i, activate<activation()>(loadPart(g + i, rest)) * loadPart(u + i, rest), rest);
    }
  });
}

/**
 * The backward of h = activation(g) * u for one row whose output is weighted by `weight`:
 * given da = d(loss)/d(weight * h) as `slope` of the unweighted output, writes
 * dg = weight * da * u * activation'(g), du = weight * da * activation(g), wh = weight * h; returns sum(h * da).
 * `da` may be the same memory as `dg` or `du`.
 */
template <Activation kind>
inline float gateBackwardRow(const float* g, const float* u, const float* da, float weight, float* dg, float* du,
                             float* wh, int64_t count) {
  const Vector w = broadcast(weight);
  Vector total = {};
  for (int64_t i = 0; i < count; i += kWidth) {
    const int64_t n = count - i;
    const bool whole = n >= kWidth;
    const Vector gate = whole ? load(g + i) : loadPart(g + i, n);
    const Vector up = whole ? load(u + i) : loadPart(u + i, n);
    const Vector slope = whole ? load(da + i) : loadPart(da + i, n);
    const Activated a = activateWithSlope<kind>(gate);
    const Vector h = a.value * up;
    total += h * slope;
    const Vector weighted = w * slope;
    const Vector dGate = weighted * up * a.slope, dUp = weighted * a.value, scaled = w * h;
    if (whole) {
      store(dg + i, dGate);
      store(du + i, dUp);
      store(wh + i, scaled);
    } else {
      storePart(dg + i, dGate, n);
      storePart(du + i, dUp, n);
      storePart(wh + i, scaled, n);
    }
  }
  return sum(total);
}

}  // namespace moebius

#endif  // MOEBIUS_ACTIVATION_H_

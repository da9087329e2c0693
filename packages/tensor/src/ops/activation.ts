/**
 * @file Activations of feed-forward networks and their derivatives.
 *
 * `gelu` is the exact form `x Φ(x)` (erf); `gelu_tanh` is the tanh approximation that Hugging Face calls
 * `gelu_new` and `gelu_pytorch_tanh`; `silu` is `x σ(x)`.
 */
import { add, cast, erf, exp, greater, mul, relu, sigmoid, square, sub, tanh } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/** Name of an activation. `gelu` is exact (erf), `gelu_tanh` its tanh approximation. */
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu';

/** `√(2/π)` and the cubic coefficient of the tanh form. */
const tanhScale = Math.sqrt(2 / Math.PI);
const tanhCubic = 0.044715;

/**
 * `act(x)`.
 *
 * @param x - float32 `[…]`, borrowed
 * @returns float32 `[…]`; free it in the enclosing scope
 */
export function activate<T extends Tensor>(x: T, activation: Activation): T {
  switch (activation) {
    case 'silu':
      return mul(x, sigmoid(x));
    case 'gelu':
      return mul(x, normalCdf(x));
    case 'gelu_tanh':
      return mul(mul(x, 0.5), add(1, tanh(tanhArgument(x))));
    case 'relu':
      return relu(x);
  }
}

/**
 * `act'(x)`.
 *
 * @param x - float32 `[…]`, borrowed
 * @returns float32 `[…]`; free it in the enclosing scope
 */
export function activationSlope<T extends Tensor>(x: T, activation: Activation): T {
  switch (activation) {
    case 'silu': {
      const s = sigmoid(x);
      return mul(s, add(1, mul(x, sub(1, s))));
    }
    case 'gelu': {
      const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      return add<T>(normalCdf(x), mul(x, density));
    }
    case 'gelu_tanh': {
      const t = tanh(tanhArgument(x));
      const inner = mul(add(1, mul(square(x), 3 * tanhCubic)), tanhScale);
      return mul<T>(0.5, add(add(1, t), mul(mul(x, sub(1, square(t))), inner)));
    }
    case 'relu':
      return cast(greater(x, 0), 'float32') as T;
  }
}

function normalCdf(x: Tensor): Tensor {
  return mul(0.5, add(1, erf(mul(x, Math.SQRT1_2))));
}

function tanhArgument(x: Tensor): Tensor {
  return mul(tanhScale, mul(x, add(1, mul(square(x), tanhCubic))));
}

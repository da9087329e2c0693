/**
 * @file Noise as a stage of `composeRouter`: there only while training, a function of seed, step, micro-batch and layer.
 *
 * Letters: `T` tokens, `D` model width, `W` columns of the logits.
 */
import { linear, softplus } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { scorerOf } from './scorers.ts';
import type { Noise } from './stages.ts';

/**
 * `z + ε·softplus(x Wnᵀ)`, ε ~ N(0, 1): a learned deviation for every token and expert, its matrix `noise_weight` `[W, D]` starting at 0
 * (deviation ln 2). Shazeer et al. 2017 (1701.06538).
 *
 * @param columns - `W`
 */
export function learnedNoise(columns: number): Noise {
  return {
    draws: normalDraws(1),
    deviation: scorerOf({
      name: 'learnedNoise',
      parameterShapes: (modelWidth) => ({ noise_weight: [columns, modelWidth] }),
      initialise: (_name, { shape }) => new Float32Array(shape.reduce((size, axis) => size * axis, 1)),
      logits: (x, { noise_weight: weight }) => softplus<Tensor2D>(linear(x, weight as Tensor2D)),
    }),
  };
}

/**
 * `z + ε`, ε ~ N(0, deviation²). V-MoE (2106.05974) uses 1/E.
 *
 * @param deviation - standard deviation
 */
export function additiveNoise(deviation: number): Noise {
  return { draws: normalDraws(deviation) };
}

function normalDraws(standardDeviation: number): NonNullable<Noise['draws']> {
  return (size, rng) => {
    const draws = new Float32Array(size);
    rng.fillNormal(draws, { standardDeviation });
    return draws;
  };
}

/**
 * `x ⊙ u`, u ~ U(1 - jitter, 1 + jitter). Switch Transformers (2101.03961).
 *
 * @param jitter - in [0, 1)
 */
export function inputJitter(jitter: number): Noise {
  return {
    factors: (size, rng) => {
      const factors = new Float32Array(size);
      rng.fillUniform(factors, { low: 1 - jitter, high: 1 + jitter });
      return factors;
    },
  };
}

/**
 * `z + g`, g ~ Gumbel(0, scale): with scale 1 the best of the noisy logits is a sample of the softmax, the k best a sample without
 * replacement.
 *
 * @param scale - of the noise
 */
export function gumbelNoise(scale: number): Noise {
  return {
    draws: (size, rng) =>
      Float32Array.from(
        { length: size },
        () => -scale * Math.log(-Math.log(rng.uniform() + Number.MIN_VALUE)),
      ),
  };
}

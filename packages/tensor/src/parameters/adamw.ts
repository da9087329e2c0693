/**
 * @file AdamW (Loshchilov and Hutter 2019) with PyTorch's meaning, order and defaults:
 * `p ← p (1 − lr·λ)`; `m ← β₁ m + (1−β₁) g`; `v ← β₂ v + (1−β₂) g²`; `p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)`.
 */
import { add, div, mul, sqrt, square, sub, tensor1d } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { defineOptimizer, outOfRange } from './optimizer.ts';
import type { CommonSettings, OptimizerDefinition, RulePart, RuleResult, UpdateRule } from './optimizer.ts';

/** AdamW, with PyTorch's meaning and defaults. Weight decay is decoupled; default 0.01. */
export interface AdamWSettings extends CommonSettings {
  readonly kind?: 'adamw';
  /** Decays of the moments; default `[0.9, 0.999]`. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly epsilon?: number;
}

/** The numbers of AdamW beside rate and decay. */
export type AdamWNumbers = Pick<AdamWSettings, 'betas' | 'epsilon'>;

/** AdamW as a definition. */
export const adamW: OptimizerDefinition<AdamWSettings> = defineOptimizer<AdamWSettings>({
  name: 'adamw',
  weightDecay: 0.01,
  check: adamWFaults,
  rules: (settings) => {
    const rule = adamWRule(settings);
    return () => rule;
  },
});

/** What is wrong with the numbers of AdamW. */
export function adamWFaults({ betas = [0.9, 0.999], epsilon = 1e-8 }: AdamWNumbers): string[] {
  const [beta1, beta2] = betas;
  return [
    ...outOfRange('betas[0]', beta1, beta1 >= 0 && beta1 < 1, 'in [0, 1)'),
    ...outOfRange('betas[1]', beta2, beta2 >= 0 && beta2 < 1, 'in [0, 1)'),
    ...outOfRange('epsilon', epsilon, Number.isFinite(epsilon) && epsilon > 0, 'above 0'),
  ];
}

/** The rule: `first` and `second` moment; one kernel call on the native engine. */
export function adamWRule({ betas = [0.9, 0.999], epsilon = 1e-8 }: AdamWNumbers): UpdateRule {
  const [beta1, beta2] = betas;
  return {
    name: 'adamw',
    slots: ['first', 'second'],
    update: (parts, step) => parts.map((part) => moved(part, { step, beta1, beta2, epsilon })),
    fused: {
      kernel: 'MoebiusAdamW',
      operands: ({ step, gradientScale, lr, weightDecays }) => [
        tensor1d([lr, beta1 ** step, beta2 ** step, beta1, beta2, epsilon], 'float32'),
        tensor1d([gradientScale], 'float32'),
        tensor1d([...weightDecays], 'float32'),
      ],
    },
  };
}

interface Numbers {
  readonly step: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

function moved(part: RulePart, { step, beta1, beta2, epsilon }: Numbers): RuleResult {
  const { value, gradient, state, lr, weightDecay } = part;
  const first = add(mul(state['first'] as Tensor, beta1), mul(gradient, 1 - beta1));
  const second = add(mul(state['second'] as Tensor, beta2), mul(square(gradient), 1 - beta2));
  const rootCorrection = Math.sqrt(1 - beta2 ** step);
  const denominator = add(div(sqrt(second), rootCorrection), epsilon);
  const move = mul(div(first, denominator), lr / (1 - beta1 ** step));
  return { value: sub(mul(value, 1 - lr * weightDecay), move), state: { first, second } };
}

/**
 * @file Stochastic gradient descent with PyTorch's meaning and defaults:
 * `g ← g + λ p` (coupled decay) or `p ← p (1 − lr·λ)` (decoupled); `b ← μ b + (1−d) g`, at first `b ← g`;
 * `p ← p − lr · b`, or with Nesterov `p ← p − lr · (g + μ b)`.
 */
import { add, mul, sub } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { defineOptimizer, outOfRange } from './optimizer.ts';
import type { CommonSettings, OptimizerDefinition, RulePart, RuleResult, UpdateRule } from './optimizer.ts';

/** SGD, with PyTorch's meaning and defaults. Default weight decay 0. */
export interface SgdSettings extends CommonSettings {
  readonly kind: 'sgd';
  /** μ; default 0: nothing is kept. */
  readonly momentum?: number;
  /** d; default 0. */
  readonly dampening?: number;
  /** Default false. */
  readonly nesterov?: boolean;
  /** `coupled` (default): decay is part of the gradient. `decoupled`: the value shrinks beside it, as in AdamW. */
  readonly decay?: 'coupled' | 'decoupled';
}

/** SGD as a definition. */
export const sgd: OptimizerDefinition<SgdSettings> = defineOptimizer<SgdSettings>({
  name: 'sgd',
  weightDecay: 0,
  check: sgdFaults,
  rules: (settings) => {
    const rule = sgdRule(settings);
    return () => rule;
  },
});

function sgdFaults(settings: SgdSettings): string[] {
  const { momentum = 0, dampening = 0, nesterov = false, decay = 'coupled' } = settings;
  const bare = nesterov && (momentum === 0 || dampening !== 0);
  return [
    ...outOfRange('momentum', momentum, momentum >= 0 && momentum < 1, 'in [0, 1)'),
    ...outOfRange('dampening', dampening, dampening >= 0 && dampening <= 1, 'in [0, 1]'),
    ...(bare
      ? [`nesterov must have momentum and no dampening, got momentum ${momentum} and dampening ${dampening}`]
      : []),
    ...(['coupled', 'decoupled'].includes(decay)
      ? []
      : [`decay must be coupled or decoupled, got ${JSON.stringify(decay)}`]),
  ];
}

function sgdRule(settings: SgdSettings): UpdateRule {
  const hasMomentum = (settings.momentum ?? 0) > 0;
  return {
    name: 'sgd',
    slots: hasMomentum ? ['momentum'] : [],
    update: (parts, step) => parts.map((part) => moved(part, step, settings)),
  };
}

function moved(part: RulePart, step: number, settings: SgdSettings): RuleResult {
  const { momentum = 0, dampening = 0, nesterov = false, decay = 'coupled' } = settings;
  const { value, state, lr, weightDecay } = part;
  const isCoupled = decay === 'coupled' && weightDecay !== 0;
  const gradient = isCoupled ? add(part.gradient, mul(value, weightDecay)) : part.gradient;
  const shrunk = decay === 'decoupled' ? mul(value, 1 - lr * weightDecay) : value;
  if (momentum === 0) return { value: sub(shrunk, mul(gradient, lr)), state: {} };
  const before = state['momentum'] as Tensor;
  const buffer = step === 1 ? gradient : add(mul(before, momentum), mul(gradient, 1 - dampening));
  const direction = nesterov ? add(gradient, mul(buffer, momentum)) : buffer;
  return { value: sub(shrunk, mul(direction, lr)), state: { momentum: buffer } };
}

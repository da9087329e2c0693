/**
 * @file Muon: momentum, orthogonalized, for matrices; AdamW for everything else.
 *
 * `b ← μ b + (1−μ) g`; `u = (1−μ) g + μ b` (Nesterov) or `b`; `p ← p (1 − lr·λ) − lr · s · NS(u)`, in the order of
 * `torch.optim.Muon`. The scale s of an `[O, I]` matrix is `0.2 √max(O, I)` (J. Liu et al.: "Muon is Scalable for LLM Training",
 * 2025: the move has the root mean square of AdamW's, so both share one learning rate), or Jordan's original `√max(1, O/I)`.
 * Deviation: Newton-Schulz runs in float32 (PyTorch: bfloat16).
 */
import { add, mul, stack, sub, unstack } from '@tensorflow/tfjs';
import type { Tensor, Tensor3D } from '@tensorflow/tfjs';

import { adamWFaults, adamWRule } from './adamw.ts';
import type { AdamWNumbers } from './adamw.ts';
import { orthogonalize } from './newton-schulz.ts';
import { defineOptimizer, outOfRange } from './optimizer.ts';
import { patternFaults } from './patterns.ts';
import type { CommonSettings, OptimizerDefinition, RulePart, RuleResult, UpdateRule } from './optimizer.ts';

/** Muon for matrices, AdamW for the rest. Weight decay is decoupled; default 0.1. */
export interface MuonSettings extends CommonSettings {
  readonly kind: 'muon';
  /** μ; default 0.95. */
  readonly momentum?: number;
  /** Default true. */
  readonly nesterov?: boolean;
  /** Newton-Schulz iterations; default 5. */
  readonly steps?: number;
  /** `match-rms` (default): moves as large as AdamW's. `original`: Jordan's; wants a learning rate near 0.02. */
  readonly scale?: 'match-rms' | 'original';
  /** Patterns of ids that AdamW takes though they are matrices. Default: {@link notForMuon}. */
  readonly adamWFor?: readonly string[];
  /** Numbers of AdamW for what Muon does not take. */
  readonly adamW?: AdamWNumbers;
}

/** Embeddings, heads and routers, by Hugging Face's names: matrices whose rows are looked up or compete. */
export const notForMuon: readonly string[] = ['embed', 'lm_head', '\\.(gate|router)\\.', 'norm'];

/** Muon as a definition. */
export const muon: OptimizerDefinition<MuonSettings> = defineOptimizer<MuonSettings>({
  name: 'muon',
  weightDecay: 0.1,
  check: muonFaults,
  rules: (settings) => {
    const forMatrices = muonRule(settings);
    const forOthers = adamWRule(settings.adamW ?? {});
    const exempt = (settings.adamWFor ?? notForMuon).map((pattern) => new RegExp(pattern, 'u'));
    return (id, shape) =>
      shape.length === 2 && !exempt.some((pattern) => pattern.test(id)) ? forMatrices : forOthers;
  },
});

function muonFaults(settings: MuonSettings): string[] {
  const { momentum = 0.95, steps = 5, scale = 'match-rms', adamWFor = notForMuon } = settings;
  return [
    ...outOfRange('momentum', momentum, momentum >= 0 && momentum < 1, 'in [0, 1)'),
    ...outOfRange(
      'steps',
      steps,
      Number.isInteger(steps) && steps >= 1 && steps <= 99,
      'an integer in [1, 99]',
    ),
    ...(['match-rms', 'original'].includes(scale)
      ? []
      : [`scale must be match-rms or original, got ${JSON.stringify(scale)}`]),
    ...patternFaults('adamWFor', adamWFor),
    ...adamWFaults(settings.adamW ?? {}).map((fault) => `adamW.${fault}`),
  ];
}

function muonRule(settings: MuonSettings): UpdateRule {
  const { momentum = 0.95, nesterov = true, steps = 5, scale = 'match-rms' } = settings;
  return {
    name: 'muon',
    slots: ['momentum'],
    update: (parts) => {
      const [rows = 1, columns = 1] = parts[0]?.value.shape ?? [];
      const factor =
        scale === 'original'
          ? Math.sqrt(Math.max(1, rows / columns))
          : 0.2 * Math.sqrt(Math.max(rows, columns));
      const buffers = parts.map(({ state, gradient }) =>
        blend(state['momentum'] as Tensor, gradient, momentum),
      );
      const updates = nesterov
        ? parts.map(({ gradient }, i) => blend(buffers[i] as Tensor, gradient, momentum))
        : buffers;
      const moves = unstack(orthogonalize(stack(updates) as Tensor3D, steps));
      return parts.map((part, i) =>
        moved(part, { move: moves[i] as Tensor, buffer: buffers[i] as Tensor, factor }),
      );
    },
  };
}

/** `μ · kept + (1 − μ) · fresh`. */
function blend(kept: Tensor, fresh: Tensor, momentum: number): Tensor {
  return add(mul(kept, momentum), mul(fresh, 1 - momentum));
}

function moved(
  { value, lr, weightDecay }: RulePart,
  { move, buffer, factor }: { readonly move: Tensor; readonly buffer: Tensor; readonly factor: number },
): RuleResult {
  return {
    value: sub(mul(value, 1 - lr * weightDecay), mul(move, lr * factor)),
    state: { momentum: buffer },
  };
}

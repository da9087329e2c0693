/**
 * @file LoRA experts on a frozen base: MixLoRA (Li et al. 2024, arXiv 2404.15159) for feed-forward experts, LoRA itself from
 * Hu et al. 2021 (arXiv 2106.09685, §4.1).
 *
 * ```
 * every matrix W [P, Q] of the base:   W_e = W + (alpha / r) · B_e A_e      A_e [r, Q], B_e [P, r]
 * ```
 * Letters: `P`, `Q` rows and columns of a part as it is stored · `r` rank.
 */
import { configurationError } from '@moebius/core';
import type { Fault } from '@moebius/core';
import { add, matMul, mul } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { adaptedExpert } from './adapted-expert.ts';
import type {
  ExpertBase,
  ExpertGradients,
  ExpertKind,
  ExpertParameters,
  PartAxis,
} from '../define-expert.ts';
import { gatedExpert } from '../expert-kinds.ts';

/** Settings of {@link loraExpert}. */
export interface LoraOptions {
  /** The kind that is adapted; its parts are frozen. Default `gatedExpert()`. */
  readonly base?: ExpertKind;
  /** Rank `r` of every change. */
  readonly rank: number;
  /** Scale: changes are multiplied by alpha / rank. */
  readonly alpha: number;
  /** Matrices that are adapted. Default all of the base. */
  readonly targets?: readonly string[];
  /** `layer` (default): all experts stand on one network, as in MixLoRA; `expert`: each adapts its own, as when a sparse model is tuned. */
  readonly scope?: ExpertBase['scope'];
}

/**
 * Experts that share a frozen network and differ by low-rank changes of its matrices. Parts `<target>A` `[r, Q]` and `<target>B`
 * `[P, r]`; A begins uniform in ±1/√Q and B as 0, so that every expert begins as the base, byte for byte. Only A and B have
 * gradients, moments and checkpoints. In a pass an expert's matrices exist merged, as those of a dense expert.
 *
 * @param options - base, rank, alpha, targets
 * @returns a kind named like `lora-r8-a16-gated-silu`
 * @throws `configuration` naming every fault
 * @example
 * ```ts
 * import { gatedExpert } from '@moebius/routing';
 *
 * const kind = loraExpert({ base: gatedExpert(), rank: 8, alpha: 16 });
 * console.log(kind.name, Object.keys(kind.parts).length);
 * ```
 */
export function loraExpert(options: LoraOptions): ExpertKind {
  const { base = gatedExpert(), rank, alpha, scope = 'layer' } = options;
  const matrices = Object.keys(base.parts).filter((part) => base.parts[part]?.length === 2);
  const targets = options.targets ?? matrices;
  assertSettings({ base, rank, alpha, targets, matrices });
  const scale = alpha / rank;
  const names = [`lora-r${rank}-a${String(alpha).replace('.', '-')}`];
  if (scope === 'expert') names.push('own');
  if (targets.length < matrices.length) names.push(`of-${targets.join('-').toLowerCase()}`);
  return adaptedExpert({
    name: [...names, base.name].join('-'),
    base,
    scope,
    parts: Object.fromEntries(targets.flatMap((target) => factors(base, target, rank))),
    merge: (parameters) =>
      Object.fromEntries(targets.map((target) => [target, mergeMatrix(parameters, target, scale)])),
    backward: (parameters, dmerged) =>
      Object.assign({}, ...targets.map((target) => factorGradients({ parameters, dmerged }, target, scale))),
    initialise: (part, { shape, rng }) => {
      const values = new Float32Array(shape.reduce((size, length) => size * length, 1));
      const bound = 1 / Math.sqrt(shape[1] ?? 1);
      if (part.endsWith('A')) rng.fillUniform(values, { low: -bound, high: bound });
      return values;
    },
  });
}

function factors(base: ExpertKind, target: string, rank: number): [string, readonly PartAxis[]][] {
  const [rows = 'F', columns = 'D'] = base.parts[target] ?? [];
  return [
    [`${target}A`, [rank, columns]],
    [`${target}B`, [rows, rank]],
  ];
}

function mergeMatrix(parameters: ExpertParameters, target: string, scale: number): Tensor2D {
  const product_PQ = matMul(parameters[`${target}B`] as Tensor2D, parameters[`${target}A`] as Tensor2D);
  return add<Tensor2D>(parameters[target] as Tensor2D, mul(product_PQ, scale));
}

/** `dA = s·Bᵀ dW`, `dB = s·dW Aᵀ`. */
function factorGradients(
  { parameters, dmerged }: { readonly parameters: ExpertParameters; readonly dmerged: ExpertGradients },
  target: string,
  scale: number,
): ExpertGradients {
  const d_PQ = dmerged[target] as Tensor2D;
  return {
    [`${target}A`]: mul(matMul(parameters[`${target}B`] as Tensor2D, d_PQ, true, false), scale),
    [`${target}B`]: mul(matMul(d_PQ, parameters[`${target}A`] as Tensor2D, false, true), scale),
  };
}

interface Settings extends Required<Pick<LoraOptions, 'base' | 'rank' | 'alpha' | 'targets'>> {
  readonly matrices: readonly string[];
}

function assertSettings({ base, rank, alpha, targets, matrices }: Settings): void {
  const faults: Fault[] = [];
  if (!Number.isInteger(rank) || rank < 1) {
    faults.push({ path: 'rank', expectation: 'must be an integer of at least 1', got: String(rank) });
  }
  if (!(alpha > 0) || !Number.isFinite(alpha)) {
    faults.push({ path: 'alpha', expectation: 'must be above 0', got: String(alpha) });
  }
  const unknown = targets.filter((target) => !matrices.includes(target));
  if (unknown.length > 0 || targets.length === 0) {
    faults.push({
      path: 'targets',
      expectation: `must be matrices of ${base.name} (${matrices.join(', ') || 'it has none'})`,
      got: unknown.length > 0 ? unknown.join(', ') : 'none',
    });
  }
  if (faults.length > 0) throw configurationError('loraExpert', faults);
}

/** An expert without adapters. */
export interface MergedExpert {
  /** The kind of the base. */
  readonly kind: ExpertKind;
  /** Its parts `[…]`; the caller owns them. */
  readonly parameters: ExpertParameters;
}

/**
 * The dense expert that computes what an adapted one does, for serving without adapters. Works for every kind with a base.
 *
 * @param kind - of an adapted expert (LoRA, IA³, your own)
 * @param parameters - own and frozen parts `[…]`, borrowed
 * @throws `configuration` when the kind has no base
 */
export function mergeAdapter(kind: ExpertKind, parameters: ExpertParameters): MergedExpert {
  const { base } = kind;
  if (base === undefined) {
    throw configurationError(`mergeAdapter "${kind.name}"`, [
      { path: 'base', expectation: 'must be there', got: 'none', remedy: 'it is a dense expert already' },
    ]);
  }
  return { kind: base.kind, parameters: base.merge(parameters) };
}

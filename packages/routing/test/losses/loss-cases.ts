import type { BuiltInLossName } from '../../src/losses/index.ts';

/** What the kit is run with: options, and what else the loss reads. */
export interface LossCase {
  readonly name: BuiltInLossName;
  readonly options?: object;
  readonly buffers?: { readonly [name: string]: Float32Array };
  /** On every engine, not just the fastest. */
  readonly everywhere?: true;
}

/** Built-in losses in the forms that differ in code, for layers of 4 experts and sequences of 4 tokens. */
export const lossCases: readonly LossCase[] = [
  { name: 'load-balance', options: { pooling: 'pooled' }, everywhere: true },
  { name: 'load-balance', options: { pooling: 'pooled', divideByTopK: true } },
  { name: 'load-balance', options: { pooling: 'per-layer' } },
  { name: 'load-balance', options: { pooling: 'per-layer', divideByTopK: true } },
  { name: 'load-balance', options: { pooling: 'per-sequence', sequenceTokens: 4 }, everywhere: true },
  { name: 'first-choice-balance' },
  { name: 'first-choice-balance', options: { pooling: 'per-sequence', sequenceTokens: 2 } },
  { name: 'device-balance', options: { devices: 2 } },
  { name: 'device-balance', options: { devices: 2, hostOf: [0, 1, 1, 1], pooling: 'pooled' } },
  { name: 'device-balance', options: { devices: 2, pooling: 'per-sequence', sequenceTokens: 4 } },
  { name: 'communication-balance', options: { devices: 2 } },
  { name: 'communication-balance', options: { devices: 4, maximumDevices: 2, pooling: 'pooled' } },
  { name: 'null-expert-balance', options: { nulls: 2, choices: 3 } },
  {
    name: 'null-expert-balance',
    options: { nulls: 1, choices: 2, pooling: 'per-sequence', sequenceTokens: 4 },
  },
  { name: 'localized-balance', options: { expertGroups: [0, 0, 1, 1], sequenceTokens: 4 }, everywhere: true },
  { name: 'importance', everywhere: true },
  { name: 'importance', options: { pooling: 'pooled', deviation: 'sample', of: 'chosen' } },
  { name: 'importance', options: { of: 'renormalised' } },
  { name: 'load-estimate', options: { noise: 0.5 }, everywhere: true },
  {
    name: 'load-estimate',
    options: { noise: 0.5, form: 'shazeer', deviation: 'sample', pooling: 'pooled' },
    everywhere: true,
  },
  { name: 'mutual-information', everywhere: true },
  { name: 'mutual-information', options: { pooling: 'pooled', certainty: 0.5, diversity: 2 } },
  { name: 'sparsity' },
  {
    name: 'sparsity',
    options: { pooling: 'per-sequence', sequenceTokens: 4 },
    buffers: { lambda: Float32Array.of(0.25) },
  },
  { name: 'z-loss', everywhere: true },
  { name: 'entropy' },
  { name: 'confidence', everywhere: true },
  { name: 'expert-count' },
  { name: 'orthogonality', everywhere: true },
  { name: 'orthogonality', options: { simplicity: 0.5 } },
];

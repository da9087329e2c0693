/**
 * @file The gate as data: one pipeline whose settings cover the published families of routers.
 *
 * ```
 * z = W x (+ b)            logits
 * s = score(z)             softmax over all experts | sigmoid | identity
 * c = s + selection bias   the bias steers selection only: never in the weights, never a gradient
 * c = keep best groups     optional
 * I = top-k of c           ties: the lowest index
 * w = s[I]  or  score over the k chosen logits
 * w = w / (Σ w + ε)        optional
 * w = w · scale
 * ```
 *
 * Mixtral and Qwen3: softmax, renormalise. OLMoE and Qwen2: softmax, no renormalisation. Granite and gpt-oss: softmax
 * after top-k. DeepSeek-V2: groups by max, fill zero. DeepSeek-V3: sigmoid, selection bias, groups by top-2 sum,
 * renormalise, scale.
 */
import { MoebiusError } from '@moebius/core';

/** How logits become scores. */
export type GateScore = 'softmax' | 'sigmoid' | 'identity';

/** Keep the best groups of experts, then choose inside them. */
export interface GateGroups {
  /** Number of groups; divides the number of experts. Group g holds experts `g·E/count … (g+1)·E/count`. */
  readonly count: number;
  /** Groups that stay. */
  readonly keep: number;
  /** Score of a group: its largest selection score, or the sum of its two largest. */
  readonly score: 'max' | 'top2-sum';
  /** Selection score of experts in dropped groups. With `zero` such an expert can still win against a negative score. */
  readonly fill: 'zero' | 'negative-infinity';
}

/** A gate as plain data: what {@link parseGateConfig} returns. */
export interface GateConfig {
  /** Number of experts `E`. */
  readonly experts: number;
  /** Experts of each token `K`. */
  readonly topK: number;
  /** How logits become scores. */
  readonly score: GateScore;
  /** Apply the score to the k chosen logits instead of all (Granite, gpt-oss). */
  readonly scoreAfterTopK: boolean;
  /** Whether a per-expert bias is added to the selection scores (DeepSeek-V3, LongCat). */
  readonly selectionBias: boolean;
  /** Group-limited selection, or null. */
  readonly groups: GateGroups | null;
  /** Divide the chosen weights by their sum. */
  readonly renormalise: boolean;
  /** Added to that sum: 0 or 1e-20 in the published gates. */
  readonly renormaliseEpsilon: number;
  /** Multiplies the weights last. */
  readonly scale: number;
  /** Whether the router has a bias on its logits (gpt-oss). Trained, unlike the selection bias. */
  readonly logitBias: boolean;
}

const scores: readonly GateScore[] = ['softmax', 'sigmoid', 'identity'];
const known: readonly string[] = [
  'experts',
  'topK',
  'score',
  'scoreAfterTopK',
  'selectionBias',
  'groups',
  'renormalise',
  'renormaliseEpsilon',
  'scale',
  'logitBias',
];

/**
 * Validates a gate and fills defaults: softmax, no renormalisation, scale 1, no biases, no groups.
 *
 * @param value - plain object; `experts` and `topK` are required
 * @returns a frozen configuration
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const mixtral = parseGateConfig({ experts: 8, topK: 2, renormalise: true });
 * ```
 */
export function parseGateConfig(value: unknown): GateConfig {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw faultError([`gate: must be an object, got ${value === null ? 'null' : typeof value}`]);
  }
  const faults: string[] = [];
  const input = value as Record<string, unknown>;
  for (const key of Object.keys(input)) {
    if (!known.includes(key)) faults.push(`gate.${key}: must be one of ${known.join(', ')}`);
  }
  const experts = readInteger(input, 'experts', 1, faults);
  const topK = readInteger(input, 'topK', 1, faults);
  const config: GateConfig = {
    experts,
    topK,
    score: readChoice(input, 'gate.score', 'score', scores, 'softmax', faults),
    scoreAfterTopK: readFlag(input, 'scoreAfterTopK', faults),
    selectionBias: readFlag(input, 'selectionBias', faults),
    groups: readGroups(input['groups'], faults),
    renormalise: readFlag(input, 'renormalise', faults),
    renormaliseEpsilon: readNumber(input, 'renormaliseEpsilon', 0, faults),
    scale: readNumber(input, 'scale', 1, faults),
    logitBias: readFlag(input, 'logitBias', faults),
  };
  checkTogether(config, faults);
  if (faults.length > 0) throw faultError(faults);
  return Object.freeze(config);
}

function checkTogether(config: GateConfig, faults: string[]): void {
  const { experts, topK, groups } = config;
  if (topK > experts)
    faults.push(`gate.topK: must be at most experts ${experts}, got ${topK} (lower topK or add experts)`);
  if (config.renormaliseEpsilon < 0) {
    faults.push(`gate.renormaliseEpsilon: must be at least 0, got ${config.renormaliseEpsilon}`);
  }
  if (config.scoreAfterTopK && config.score === 'identity') {
    faults.push("gate.scoreAfterTopK: must be false for score 'identity', got true (the two are the same)");
  }
  if (config.renormalise && config.score === 'identity') {
    faults.push(
      "gate.renormalise: must be false for score 'identity', got true (the sum of logits can be 0)",
    );
  }
  if (groups === null || !(groups.count >= 1)) return;
  if (experts % groups.count !== 0) {
    faults.push(`gate.groups.count: must divide experts ${experts}, got ${groups.count}`);
    return;
  }
  const size = experts / groups.count;
  if (groups.keep > groups.count) {
    faults.push(`gate.groups.keep: must be at most groups.count ${groups.count}, got ${groups.keep}`);
  } else if (groups.keep * size < topK) {
    faults.push(
      `gate.groups.keep: kept groups must hold topK ${topK} experts, got ${groups.keep} × ${size} (keep more groups)`,
    );
  }
  if (groups.score === 'top2-sum' && size < 2) {
    faults.push(`gate.groups.score: top2-sum needs groups of at least 2 experts, got ${size} (use max)`);
  }
}

function readGroups(value: unknown, faults: string[]): GateGroups | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'object') {
    faults.push(`gate.groups: must be an object or null, got ${typeof value}`);
    return null;
  }
  const input = value as Record<string, unknown>;
  const members = ['count', 'keep', 'score', 'fill'];
  for (const key of Object.keys(input)) {
    if (!members.includes(key)) faults.push(`gate.groups.${key}: must be one of ${members.join(', ')}`);
  }
  return Object.freeze({
    count: readInteger(input, 'count', 1, faults, 'gate.groups'),
    keep: readInteger(input, 'keep', 1, faults, 'gate.groups'),
    score: readChoice(input, 'gate.groups.score', 'score', ['max', 'top2-sum'] as const, undefined, faults),
    fill: readChoice(
      input,
      'gate.groups.fill',
      'fill',
      ['zero', 'negative-infinity'] as const,
      undefined,
      faults,
    ),
  });
}

function readInteger(
  input: Record<string, unknown>,
  key: string,
  minimum: number,
  faults: string[],
  subject: string = 'gate',
): number {
  const value = input[key];
  if (Number.isInteger(value) && (value as number) >= minimum) return value as number;
  faults.push(`${subject}.${key}: must be an integer of at least ${minimum}, got ${show(value)}`);
  return NaN;
}

function readNumber(input: Record<string, unknown>, key: string, fallback: number, faults: string[]): number {
  const value = input[key] ?? fallback;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  faults.push(`gate.${key}: must be a finite number, got ${show(value)}`);
  return fallback;
}

function readFlag(input: Record<string, unknown>, key: string, faults: string[]): boolean {
  const value = input[key] ?? false;
  if (typeof value === 'boolean') return value;
  faults.push(`gate.${key}: must be true or false, got ${show(value)}`);
  return false;
}

function readChoice<Choice extends string>(
  input: Record<string, unknown>,
  subject: string,
  key: string,
  choices: readonly Choice[],
  fallback: Choice | undefined,
  faults: string[],
): Choice {
  const value = input[key] ?? fallback;
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  faults.push(`${subject}: must be one of ${choices.join(', ')}, got ${show(value)}`);
  return choices[0] as Choice;
}

function show(value: unknown): string {
  return typeof value === 'string'
    ? `"${value}"`
    : typeof value === 'object' && value !== null
      ? 'an object'
      : String(value);
}

function faultError(faults: readonly string[]): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: faults.length === 1 ? (faults[0] ?? '') : `gate: ${faults.length} faults: ${faults.join('; ')}`,
    details: { faults: [...faults] },
  });
}

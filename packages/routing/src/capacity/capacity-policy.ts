/**
 * @file The built-in capacity policies: a configuration becomes a planner.
 *
 * ```
 * candidates → cells → cap → prune → plan
 * ```
 *
 * Letters: `T` tokens, `E` experts, `R` cells, `Q` buckets.
 */
import { MoebiusError, createRng } from '@moebius/core';

import { bestPairs } from './best-pairs.kernel.ts';
import { capColumnsInto } from './cap-columns.kernel.ts';
import type { Columns, RankBy } from './cap-columns.kernel.ts';
import { expandLocally, expandToTopM, groupByDevice, listCandidates } from './candidates.kernel.ts';
import type { ExpandToken } from './candidates.kernel.ts';
import { capacitySizeFaults } from './capacity-config.ts';
import type { CapacityConfig, CapacityLimit, DropConfig, ExpertDropConfig } from './capacity-config.ts';
import { place } from './capacity-problem.ts';
import type { CapacityProblem } from './capacity-problem.ts';
import { capacityOf, countCells } from './cells.kernel.ts';
import type { Cells } from './cells.kernel.ts';
import { defineCapacityPolicy } from './define-capacity-policy.ts';
import type { CapacityPolicy } from './define-capacity-policy.ts';
import { collectKept, pruneTokensInto } from './kept-pairs.kernel.ts';
import { planKept } from './plan-kept.ts';
import { resolvePlacement } from './placement.ts';
import type { Placement } from './placement.ts';
import { reroutePairs } from './reroute.kernel.ts';
import { spreadRowsInto } from './scores.kernel.ts';
import { createCapacityScratch } from './scratch.kernel.ts';
import type { CapacityScratch } from './scratch.kernel.ts';
import { skippedExperts } from './skipped-experts.kernel.ts';

import type { DispatchPlan } from '../dispatch-plan.ts';

/**
 * A policy from its configuration. It keeps scratch space that all its plans share; plans themselves are fresh.
 *
 * @param config - from `parseCapacityConfig`
 * @returns a policy named `token-drop`, `expanded-drop`, `device-drop`, `reroute` or `expert-drop`
 * @example
 * ```ts
 * const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1.25 }));
 * ```
 */
export function capacityPolicy(config: CapacityConfig): CapacityPolicy {
  const scratch = createCapacityScratch();
  return defineCapacityPolicy({
    name: policyName(config),
    weights: { norm: config.weights, scale: config.scale, epsilon: config.epsilon },
    causal: isCausal(config),
    sizeFaults: (sizes) => capacitySizeFaults(config, sizes),
    applies: (problem) => actsOn(config, problem),
    plan: (problem) => {
      if (config.method === 'expert-drop') return planExpertDrop(config, problem, scratch);
      const setting = prepare(config, problem, scratch);
      return config.method === 'drop' ? planDrop(config, setting) : planReroute(config.rounds, setting);
    },
  });
}

function policyName(config: CapacityConfig): string {
  if (config.method !== 'drop') return config.method;
  if (config.granularity === 'device') return 'device-drop';
  return config.expand === null ? 'token-drop' : 'expanded-drop';
}

/** Only the earliest tokens first, whatever their pairs, never looks ahead; and a cap that nothing reaches. */
function isCausal(config: CapacityConfig): boolean {
  if (config.method !== 'drop') return false;
  const isUnbounded = [config.gamma].flat().every((gamma) => gamma === Infinity);
  return isUnbounded || (config.key === 'order' && config.priority === 'score');
}

function actsOn(config: CapacityConfig, problem: CapacityProblem): boolean {
  const { phase = 'evaluate', mask, primary } = problem;
  const pass = phase === 'decode' ? 'decode' : 'prefill';
  const inPhase = phase === 'train' ? config.training : config.applyTo === 'both' || config.applyTo === pass;
  if (!inPhase || config.minTokens === 0) return inPhase;
  const real =
    mask === undefined ? primary.tokens : mask.reduce((sum, kept) => sum + (kept === 0 ? 0 : 1), 0);
  return real >= config.minTokens;
}

/** A problem with everything that does not depend on the method resolved. */
interface Setting {
  readonly problem: CapacityProblem;
  readonly placement: Placement | null;
  readonly cells: Cells;
  /** `[R]`, cap of an expert. */
  readonly limit: Int32Array;
  /** Cap of an expert in a cell at another γ. */
  readonly limitAt: (cell: number, factor: number) => number;
  readonly rank: RankBy;
  readonly scratch: CapacityScratch;
}

function prepare(
  config: CapacityLimit & CapacityConfig,
  problem: CapacityProblem,
  scratch: CapacityScratch,
): Setting {
  const { primary, mask } = problem;
  const placement = resolvePlacement(config, problem);
  const cells = countCells(
    { ...cellsOf(config, problem, placement), tokenOffsets: primary.tokenOffsets, mask },
    scratch,
  );
  const gamma = gammaOf(config, problem);
  const { rounding, minCapacity } = config;
  const limitAt = (cell: number, factor: number): number =>
    capacityOf({
      gamma: gamma === Infinity ? gamma : gamma * factor,
      pairs: cells.pairs[cell] ?? 0,
      experts: primary.experts,
      tokens: cells.tokens[cell] ?? 0,
      rounding,
      minCapacity,
    });
  const limit = scratch.int32('limit', cells.count);
  for (let cell = 0; cell < cells.count; cell += 1) limit[cell] = limitAt(cell, 1);
  const rank: RankBy = {
    key: config.key,
    priority: config.method === 'drop' ? config.priority : 'score',
    scores: problem.scores,
    tokenClass: problem.tokenClass,
    bestPair:
      config.method === 'drop' && config.priority === 'best-first' ? bestPairs(primary, scratch) : null,
    uniform: () => drawUniform(config.seed, problem),
  };
  return { problem, placement, cells, limit, limitAt, rank, scratch };
}

function cellsOf(
  config: CapacityLimit,
  problem: CapacityProblem,
  placement: Placement | null,
): { count: number; cellOf: (token: number) => number } {
  if (config.scope === 'rank' && placement !== null) {
    return { count: placement.devices, cellOf: placement.deviceOf };
  }
  if (config.scope === 'global') return { count: 1, cellOf: () => 0 };
  const { sequences, primary } = problem;
  if (sequences === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${place(problem)}capacity sequences: must be given for scope 'sequence', got nothing (pass their number, or use scope 'global')`,
    });
  }
  const length = primary.tokens / sequences;
  return { count: sequences, cellOf: (token) => Math.floor(token / length) };
}

function gammaOf(config: CapacityLimit, problem: CapacityProblem): number {
  if (typeof config.gamma === 'number') return config.gamma;
  const gamma = problem.layer === undefined ? undefined : config.gamma[problem.layer];
  if (gamma !== undefined) return gamma;
  throw new MoebiusError({
    code: 'configuration',
    message: `${place(problem)}capacity gamma: must have an entry for this layer, got ${config.gamma.length} entries${
      problem.layer === undefined ? ' and no layer' : ''
    } (one for each routed layer, or one number)`,
    details: { layer: problem.layer ?? -1, entries: config.gamma.length },
  });
}

/** One number for each unmasked (token, expert), by (seed, layer, step): the same whatever was drawn before. */
function drawUniform(seed: number, problem: CapacityProblem): Float32Array {
  const { primary, mask, layer = 0, step = 0 } = problem;
  const drawn = new Float32Array(primary.tokens * primary.experts);
  createRng([seed, layer, step]).fork('capacity').fillUniform(drawn);
  if (mask !== undefined) spreadRowsInto(drawn, mask, primary.experts);
  return drawn;
}

function planDrop(config: DropConfig, setting: Setting): DispatchPlan {
  const { problem, cells, scratch } = setting;
  const { primary, scores } = problem;
  const expand = expandOf(config, setting);
  const perToken = expand === null ? 0 : config.expand?.kind === 'top-m' ? config.expand.m : primary.experts;
  const candidates = listCandidates(primary, cells.of, { expand, perToken }, scratch);
  const keep = scratch.bytes('keep', candidates.count).fill(1);
  for (const columns of columnsOf(config, setting)) {
    capColumnsInto(keep, candidates, { ...setting, columns }, scratch);
  }
  if (config.maxPerToken !== null) pruneTokensInto(keep, candidates, scores, config.maxPerToken);
  return planKept({ ...collectKept(keep, candidates, scores), limit: setting.limit }, problem);
}

function expandOf(config: DropConfig, setting: Setting): ExpandToken | null {
  const { primary, scores } = setting.problem;
  if (config.expand === null) return null;
  if (config.expand.kind === 'top-m') return expandToTopM(scores, config.expand.m, primary.experts);
  const { hostOf, devices, deviceOf } = required(setting);
  return expandLocally(scores, groupByDevice(hostOf, devices), deviceOf, primary.experts);
}

/** The caps in the order they apply: inner ones first. */
function columnsOf(config: DropConfig, setting: Setting): Columns[] {
  const { cells, limit, limitAt, problem } = setting;
  const { experts } = problem.primary;
  if (config.granularity === 'expert') return [expertColumns(experts, cells, (cell) => limit[cell] ?? 0)];
  const { hostOf, devices } = required(setting);
  const hosted = new Int32Array(devices);
  for (const device of hostOf) hosted[device] = (hosted[device] ?? 0) + 1;
  const budget = new Int32Array(cells.count * devices);
  for (let at = 0; at < budget.length; at += 1) {
    budget[at] = (hosted[at % devices] ?? 0) * (limit[Math.floor(at / devices)] ?? 0);
  }
  const device: Columns = { buckets: devices, bucketOf: hostOf, limit: budget };
  const bound = config.expertBound;
  if (bound === null) return [device];
  return [expertColumns(experts, cells, (cell) => limitAt(cell, bound)), device];
}

function expertColumns(experts: number, cells: Cells, limitOf: (cell: number) => number): Columns {
  const limit = new Int32Array(cells.count * experts);
  for (let cell = 0; cell < cells.count; cell += 1) {
    limit.fill(limitOf(cell), cell * experts, (cell + 1) * experts);
  }
  return { buckets: experts, bucketOf: Int32Array.from({ length: experts }, (_, e) => e), limit };
}

function planReroute(rounds: number, setting: Setting): DispatchPlan {
  const { problem, cells, limit, rank, scratch } = setting;
  const { primary, scores } = problem;
  const columns = expertColumns(primary.experts, cells, (cell) => limit[cell] ?? 0);
  const { candidates, keep } = reroutePairs({ primary, cells, columns, rank, rounds }, scratch);
  return planKept({ ...collectKept(keep, candidates, scores), limit }, problem);
}

function planExpertDrop(
  config: ExpertDropConfig,
  problem: CapacityProblem,
  scratch: CapacityScratch,
): DispatchPlan {
  const { primary, mask, scores } = problem;
  const { experts, tokenOffsets } = primary;
  const cells = countCells({ count: 1, cellOf: () => 0, tokenOffsets, mask }, scratch);
  const candidates = listCandidates(primary, cells.of, { expand: null, perToken: 0 }, scratch);
  const count = Math.max(Math.floor(config.fraction * experts), config.minSkipped);
  const skipped = skippedExperts(primary.stats.load, count);
  const keep = scratch.bytes('keep', candidates.count);
  for (let c = 0; c < candidates.count; c += 1) {
    keep[c] = skipped[(candidates.source[c] ?? 0) % experts] === 1 ? 0 : 1;
  }
  return planKept(collectKept(keep, candidates, scores), problem);
}

function required({ placement, problem }: Setting): Placement {
  if (placement !== null) return placement;
  throw new MoebiusError({
    code: 'configuration',
    message: `${place(problem)}capacity placement: must be given for this method, got none (parse the configuration with parseCapacityConfig)`,
  });
}

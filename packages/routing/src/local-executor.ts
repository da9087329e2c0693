/**
 * @file The local executor: experts in this process.
 *
 * ```
 * fused:    hidden_TD, weights_N ──► kind.fused (one operation) ──► y_TD
 * general:  hidden_TD ─gather─► rows_ND ─slice─► kind.forward per expert ─concat─► out_ND ─combine─► y_TD
 * ```
 * The fused path is taken when the source is resident and every expert is of one kind and one shape that has a fused form. Both
 * paths mean the same; the conformance kit holds them to one oracle.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `N` routed pairs, `R` rows of one expert.
 */
import { MoebiusError } from '@moebius/core';
import type { Task } from '@moebius/core';
import {
  assertCount,
  assertShape,
  cloneTree,
  combineRowsBackward,
  combineRowsForward,
  concat,
  gatherRowsBackward,
  gatherRowsForward,
  runOp,
  slice,
  zeros,
  zerosLike,
} from '@moebius/tensor';
import type { CombineRowsSaved, GatherRowsSaved, Tensor1D, Tensor2D } from '@moebius/tensor';

import { acceptMerge } from './accept-merge.ts';
import { acceptSlots } from './accept-slots.ts';
import type { ExpertGradients, ExpertKind, ExpertParameters, FusedLayer } from './define-expert.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { defineExecutor } from './expert-executor.ts';
import type {
  ExecutorGradients,
  ExecutorInput,
  ExecutorOutput,
  ExecutorSaved,
  ExpertExecutor,
} from './expert-executor.ts';
import type { PairsRoute } from './route.ts';
import { expertBackward, expertForward, guardFused, shapesOf } from './run-expert.ts';

/** Settings of {@link createLocalExecutor}. */
export interface LocalExecutorOptions {
  /** `auto` fuses where it can; `general` never does (comparison, debugging). */
  readonly path?: 'auto' | 'general';
}

interface FusedState {
  readonly path: 'fused';
  readonly layer: FusedLayer;
  readonly saved: unknown;
}

interface GeneralState {
  readonly path: 'general';
  readonly layer: number;
  readonly plan: DispatchPlan;
  /** Kind and saved of every expert with rows, or null. */
  readonly runs: readonly (ExpertRun | null)[];
  /** Clones of the trained parts of acquired experts without rows; null for the others. */
  readonly idle: readonly (ExpertParameters | null)[];
  readonly gathered: GatherRowsSaved;
  readonly combined: CombineRowsSaved;
}

/** T = 0 or N = 0: no arithmetic at all. */
interface EmptyState {
  readonly path: 'empty';
  readonly idle: readonly (ExpertParameters | null)[];
}

interface ExpertRun {
  readonly kind: ExpertKind;
  readonly saved: unknown;
  /** Shapes of the parts, to hold gradients to. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

type LocalState = FusedState | GeneralState | EmptyState;

const name = 'local';

/**
 * The executor that runs experts in this process.
 *
 * @param options - which path
 * @returns an executor that accepts every kind of route ({@link acceptSlots}, {@link acceptMerge}) and never waits by itself (its
 * source may)
 */
export function createLocalExecutor(options: LocalExecutorOptions = {}): ExpertExecutor {
  const mayFuse = (options.path ?? 'auto') === 'auto';
  const pairs = defineExecutor({
    name,
    accepts: ['pairs'],
    forward: (input) => forward(input, mayFuse),
    // eslint-disable-next-line require-yield -- a task that never waits
    *backward(saved, dy): Task<ExecutorGradients> {
      return backward(ownState(saved), dy);
    },
  });
  return acceptMerge(acceptSlots(pairs));
}

function* forward(input: ExecutorInput, mayFuse: boolean): Task<ExecutorOutput> {
  const { hidden, experts, layer } = input;
  const route = assertInput(input);
  const ids = experts.resident
    ? Int32Array.from({ length: experts.experts }, (_, e) => e)
    : busyExperts(route.plan);
  const lease = yield* experts.acquire(layer, ids);
  try {
    const kinds = Array.from({ length: experts.experts }, (_, e) => experts.kind(e));
    const parameters = kinds.map((_, e) =>
      experts.resident || (route.plan.stats.load[e] ?? 0) > 0 ? lease.parameters(e) : null,
    );
    const work = { layer, hidden, route, kinds, parameters };
    const fused = mayFuse ? commonFused(kinds, parameters) : null;
    if (route.plan.token.length === 0) return runEmpty(work);
    return fused === null ? runGeneral(work) : runFused(work, guardFused(fused, layer));
  } finally {
    lease.release();
  }
}

interface Work {
  readonly layer: number;
  readonly hidden: Tensor2D;
  readonly route: PairsRoute;
  readonly kinds: readonly ExpertKind[];
  readonly parameters: readonly (ExpertParameters | null)[];
}

function runFused(work: Work, layer: FusedLayer): ExecutorOutput {
  const experts = work.parameters.filter((entry) => entry !== null);
  const { value, saved } = layer.forward(work.hidden, work.route.weights, { experts, plan: work.route.plan });
  return output(value, { path: 'fused', layer, saved });
}

function runEmpty(work: Work): ExecutorOutput {
  return runOp('localExecutor.empty', () =>
    output(zeros(work.hidden.shape), {
      path: 'empty',
      idle: cloneTree(work.parameters.map((entry, e) => trainedParts(work.kinds[e], entry))),
    }),
  );
}

function runGeneral(work: Work): ExecutorOutput {
  const { layer, hidden, route, kinds, parameters } = work;
  const { plan, weights } = route;
  return runOp('localExecutor', () => {
    const gathered = gatherRowsForward(hidden, plan);
    const outputs: Tensor2D[] = [];
    const runs = kinds.map((kind, e): ExpertRun | null => {
      const rows_RD = rowsOf(gathered.value, plan, e);
      if (rows_RD === null) return null;
      const own = parameters[e] ?? {};
      const { value, saved } = expertForward(kind, { x: rows_RD, parameters: own }, { layer, expert: e });
      outputs.push(value);
      return { kind, saved, shapes: kind.trusted === true ? {} : shapesOf(trainedParts(kind, own) ?? {}) };
    });
    const combined = combineRowsForward(concat(outputs, 0), weights, plan);
    const idle = cloneTree(
      parameters.map((entry, e) => (runs[e] === null ? trainedParts(kinds[e], entry) : null)),
    );
    const state: GeneralState = {
      path: 'general',
      layer,
      plan,
      runs,
      idle,
      gathered: gathered.saved,
      combined: combined.saved,
    };
    return output(combined.value, state);
  });
}

function backward(state: LocalState, dy: Tensor2D): ExecutorGradients {
  if (state.path === 'fused') {
    const { dx, dweights, experts } = state.layer.backward(state.saved, dy);
    return { hidden: dx, route: { kind: 'pairs', weights: dweights }, experts };
  }
  if (state.path === 'empty') {
    return runOp('localExecutor.backward', () => ({
      hidden: zerosLike(dy),
      route: { kind: 'pairs' as const, weights: zeros([0]) as Tensor1D },
      experts: state.idle.map(zeroGradients),
    }));
  }
  return generalBackward(state, dy);
}

function generalBackward(state: GeneralState, dy: Tensor2D): ExecutorGradients {
  return runOp('localExecutor.backward', () => {
    const { dy: dout_ND, dweights } = combineRowsBackward(state.combined, dy);
    const pieces: Tensor2D[] = [];
    const experts = state.runs.map((run, e): ExpertGradients => {
      const dout_RD = run === null ? null : rowsOf(dout_ND, state.plan, e);
      if (run === null || dout_RD === null) return zeroGradients(state.idle[e] ?? null);
      const work = { saved: run.saved, dy: dout_RD, shapes: run.shapes };
      const { dx, parameters } = expertBackward(run.kind, work, { layer: state.layer, expert: e });
      pieces.push(dx);
      return parameters;
    });
    const { dx } = gatherRowsBackward(state.gathered, concat(pieces, 0));
    return { hidden: dx, route: { kind: 'pairs' as const, weights: dweights }, experts };
  });
}

/** Rows of one expert `[R, D]` out of `[N, D]`, or null without rows. */
function rowsOf(rows_ND: Tensor2D, plan: DispatchPlan, expert: number): Tensor2D | null {
  const from = plan.offsets[expert] ?? 0;
  const count = (plan.offsets[expert + 1] ?? from) - from;
  return count === 0 ? null : slice(rows_ND, [from, 0], [count, rows_ND.shape[1]]);
}

function busyExperts(plan: DispatchPlan): Int32Array {
  const ids = [];
  for (let e = 0; e < plan.experts; e += 1)
    if ((plan.offsets[e + 1] ?? 0) > (plan.offsets[e] ?? 0)) ids.push(e);
  return Int32Array.from(ids);
}

/** The kind shared by all experts when it has a fused form: one by name, every part of one shape. */
function commonFused(
  kinds: readonly ExpertKind[],
  parameters: readonly (ExpertParameters | null)[],
): ExpertKind | null {
  const first = kinds[0];
  const model = parameters[0];
  if (first?.fused === undefined || model == null) return null;
  const parts = Object.keys(first.parts);
  const same = kinds.every((kind, e) => {
    const own = parameters[e];
    return (
      kind.name === first.name &&
      own != null &&
      parts.every((part) => sameShape(own[part]?.shape, model[part]?.shape))
    );
  });
  return same ? first : null;
}

function sameShape(left: readonly number[] | undefined, right: readonly number[] | undefined): boolean {
  return (
    left !== undefined &&
    right !== undefined &&
    left.length === right.length &&
    left.every((size, axis) => size === right[axis])
  );
}

/** The parts of an expert that have a gradient: its own, not those of its base. */
function trainedParts(
  kind: ExpertKind | undefined,
  parameters: ExpertParameters | null,
): ExpertParameters | null {
  if (parameters === null || kind?.base === undefined) return parameters;
  return Object.fromEntries(Object.entries(parameters).filter(([part]) => Object.hasOwn(kind.parts, part)));
}

function zeroGradients(parameters: ExpertParameters | null): ExpertGradients {
  return Object.fromEntries(
    Object.entries(parameters ?? {}).map(([part, tensor]) => [part, zerosLike(tensor)]),
  );
}

function output(y: Tensor2D, state: LocalState): ExecutorOutput {
  return { y, saved: { executor: name, state } };
}

function ownState(saved: ExecutorSaved): LocalState {
  if (saved.executor === name) return saved.state as LocalState;
  throw new MoebiusError({
    code: 'plugin',
    message: `executor ${name}: saved must come from its own forward, got one of "${saved.executor}" (pair forward and backward)`,
    details: { executor: saved.executor },
  });
}

function assertInput(input: ExecutorInput): PairsRoute {
  const { hidden, route, experts, layer } = input;
  if (route.kind !== 'pairs') {
    throw new MoebiusError({
      code: 'plugin',
      message: `layers[${layer}] executor ${name}: route must be of kind pairs, got ${route.kind} (use an executor that accepts it)`,
      details: { layer, kind: route.kind },
    });
  }
  const { plan, weights } = route;
  if (plan.prefix !== undefined) {
    throw new MoebiusError({
      code: 'plugin',
      message: `layers[${layer}] executor ${name}: plan must not have neuron prefixes, got ${plan.prefix.length} (use an executor for partitioned experts)`,
      details: { layer, pairs: plan.prefix.length },
    });
  }
  assertShape(hidden, 'T D', { T: plan.tokens }, `layers[${layer}] hidden`);
  assertShape(weights, 'N', { N: plan.token.length }, `layers[${layer}] route weights`);
  assertCount(experts.experts, plan.experts, `layers[${layer}] experts of the source`);
  return route;
}

/**
 * @file Running routes of kind `merge` on any executor that runs pairs: the experts of a group are averaged into one, and
 * the tokens of the group are the rows of that one.
 *
 * ```
 * θ_e ─stack─► [E, P] ─mix_GE─► [G, P] ─► G merged experts ─► executor (token t → expert group[t], weight 1) ─► y_TD
 * ```
 * Letters: `T` tokens, `D` model width, `E` experts, `G` groups, `P` numbers of a part, `N` routed tokens.
 */
import { MoebiusError } from '@moebius/core';
import type { Task } from '@moebius/core';
import {
  add,
  assertCount,
  assertShape,
  cloneTensor,
  cloneTree,
  concat,
  disposeTree,
  matMul,
  ones,
  reshape,
  runOp,
  slice,
  zeros,
  zerosLike,
} from '@moebius/tensor';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import type { ExpertGradients, ExpertKind, ExpertParameters } from './define-expert.ts';
import { acceptRoute } from './accept-route.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import type { ExecutorGradients, ExecutorInput, ExecutorSaved, ExpertExecutor } from './expert-executor.ts';
import { createResidentSource } from './expert-source.ts';
import { planPairs } from './plan-top-k.ts';
import type { MergeRoute } from './route.ts';

interface MergeState {
  /** Of the executor of pairs. */
  readonly rows: ExecutorSaved;
  /** float32 `[G, E]`. */
  readonly mix: Tensor2D;
  /** `[E]`, clones of the trained parts. */
  readonly experts: readonly ExpertParameters[];
}

/**
 * An executor that runs `merge` too (SMEAR, Muqeeth et al. 2023; Lory, Zhong et al. 2024): the parameters of the experts of
 * a group are averaged, `θ̄_g = Σ_e mix_ge θ_e`, and one expert runs the tokens of the group. Experts must be of one kind and
 * one shape; what they stand on is not averaged, so a base must be the layer's. Merging costs `O(G·E·P)` whatever the number of tokens, so groups should be much longer than one token. All other
 * routes go to `executor` as they are.
 *
 * @param executor - accepts `pairs`; it is given the merged experts, in memory, and one pair of weight 1 for each token
 * @returns an executor of the same name; `forward` refuses with `configuration` experts of several kinds or shapes
 */
export function acceptMerge(executor: ExpertExecutor): ExpertExecutor {
  return acceptRoute(executor, {
    kind: 'merge',
    forward: (input, route) => mergeForward(input, route, executor),
    backward: (state: MergeState, dy) => mergeBackward(executor, state, dy),
  });
}

function* mergeForward(
  input: ExecutorInput,
  route: MergeRoute,
  executor: ExpertExecutor,
): Task<{ readonly y: Tensor2D; readonly state: MergeState }> {
  const { hidden, experts, layer } = input;
  const plan = groupPlan(input, route);
  const kinds = Array.from({ length: experts.experts }, (_, e) => experts.kind(e));
  const kind = commonKind(kinds, layer, executor.name);
  const lease = yield* experts.acquire(
    layer,
    Int32Array.from(kinds, (_, e) => e),
  );
  let merged: { readonly own: ExpertParameters[]; readonly all: ExpertParameters[]; weights: Tensor1D };
  try {
    const all = kinds.map((_, e) => lease.parameters(e));
    assertOneShape(all, layer, executor.name);
    merged = runOp('merge', () => ({
      own: mergeExperts(all, route.mix, kind),
      all: cloneTree(all.map((parameters) => pick(parameters, Object.keys(kind.parts)))),
      weights: ones([plan.token.length]) as Tensor1D,
    }));
  } finally {
    lease.release();
  }
  let done = false;
  try {
    const source = createResidentSource({
      kinds: merged.own.map(() => kind),
      read: (_layer, group) => merged.own[group] ?? {},
    });
    const pairs = { kind: 'pairs' as const, plan, weights: merged.weights };
    const { y, saved } = yield* executor.forward({ layer, hidden, route: pairs, experts: source });
    done = true;
    const state: MergeState = { rows: saved, mix: cloneTensor(route.mix), experts: merged.all };
    return { y, state };
  } finally {
    disposeTree([merged.own, merged.weights, done ? null : merged.all]);
  }
}

function* mergeBackward(executor: ExpertExecutor, state: MergeState, dy: Tensor2D): Task<ExecutorGradients> {
  const rows = yield* executor.backward(state.rows, dy);
  try {
    return runOp('merge.backward', () => {
      const { dmix, experts } = splitGradients(state, rows.experts);
      return { hidden: cloneTensor(rows.hidden), route: { kind: 'merge' as const, mix: dmix }, experts };
    });
  } finally {
    disposeTree(rows);
  }
}

/** `θ̄_g = Σ_e mix_ge θ_e`, part by part. */
function mergeExperts(
  experts: readonly ExpertParameters[],
  mix: Tensor2D,
  kind: ExpertKind,
): ExpertParameters[] {
  const [first = {}] = experts;
  const base = Object.keys(kind.base?.kind.parts ?? {});
  const groups = Array.from({ length: mix.shape[0] }, (): { [part: string]: Tensor } => ({
    ...cloneTree(pick(first, base)),
  }));
  for (const [part, { shape }] of Object.entries(pick(first, Object.keys(kind.parts)))) {
    const merged_GP = matMul<Tensor2D>(mix, stackPart(experts, part));
    for (const [g, own] of groups.entries()) own[part] = rowOf(merged_GP, g, shape);
  }
  return groups;
}

function pick(parameters: ExpertParameters, parts: readonly string[]): ExpertParameters {
  return Object.fromEntries(Object.entries(parameters).filter(([part]) => parts.includes(part)));
}

/** `dθ_e = Σ_g mix_ge dθ̄_g` and `dmix_ge = dθ̄_g · θ_e`. */
function splitGradients(
  { mix, experts }: MergeState,
  groups: readonly ExpertGradients[],
): { readonly dmix: Tensor2D; readonly experts: ExpertGradients[] } {
  let dmix_GE: Tensor2D = zeros(mix.shape);
  const gradients = experts.map((): { [part: string]: Tensor } => ({}));
  for (const [part, first] of Object.entries(experts[0] ?? {})) {
    const own = groups.map((group) => ({ [part]: group[part] ?? zerosLike(first) }));
    const dmerged_GP = stackPart(own, part);
    dmix_GE = add(dmix_GE, matMul(dmerged_GP, stackPart(experts, part), false, true));
    const dstack_EP = matMul<Tensor2D>(mix, dmerged_GP, true);
    for (const [e, gradient] of gradients.entries()) gradient[part] = rowOf(dstack_EP, e, first.shape);
  }
  return { dmix: dmix_GE, experts: gradients };
}

/** One part of all experts, `[E, P]`. */
function stackPart(experts: readonly ExpertParameters[], part: string): Tensor2D {
  const rows = experts.map((own): Tensor2D => reshape(own[part] as Tensor, [1, -1]));
  return concat(rows, 0);
}

function rowOf(stack: Tensor2D, row: number, shape: readonly number[]): Tensor {
  return reshape(slice(stack, [row, 0], [1, stack.shape[1]]), [...shape]);
}

/** Every token is a pair of the merged expert of its group; a token of no group has no pair. */
function groupPlan({ hidden, experts, layer }: ExecutorInput, { mix, group }: MergeRoute): DispatchPlan {
  assertShape(hidden, 'T D', { T: group.length }, `layers[${layer}] hidden`);
  assertShape(mix, 'G E', {}, `layers[${layer}] route mix`);
  assertCount(mix.shape[1], experts.experts, `layers[${layer}] experts of the route`);
  const tokenOffsets = new Int32Array(group.length + 1);
  for (const [t, g] of group.entries()) tokenOffsets[t + 1] = (tokenOffsets[t] ?? 0) + (g < 0 ? 0 : 1);
  return planPairs(
    group.filter((g) => g >= 0),
    { experts: mix.shape[0], tokenOffsets },
  );
}

function commonKind(kinds: readonly ExpertKind[], layer: number, executor: string): ExpertKind {
  const [first, ...others] = kinds;
  const other = others.find(({ name }) => name !== first?.name);
  if (first?.base?.scope === 'expert') {
    throw new MoebiusError({
      code: 'configuration',
      message: `layers[${layer}] executor ${executor}: experts that are merged must stand on one base, got ${first.name} with a base for each (merge their adapters first, or route pairs)`,
      details: { layer, kind: first.name },
    });
  }
  if (first !== undefined && other === undefined) return first;
  throw new MoebiusError({
    code: 'configuration',
    message: `layers[${layer}] executor ${executor}: experts that are merged must be of one kind, got ${first?.name} and ${other?.name} (give all experts of the layer one kind, or route pairs)`,
    details: { layer, kinds: [...new Set(kinds.map(({ name }) => name))] },
  });
}

function assertOneShape(experts: readonly ExpertParameters[], layer: number, executor: string): void {
  for (const [part, { shape }] of Object.entries(experts[0] ?? {})) {
    const odd = experts.findIndex((own) => String(own[part]?.shape) !== String(shape));
    if (odd < 0) continue;
    const got = experts[odd]?.[part]?.shape ?? [];
    throw new MoebiusError({
      code: 'configuration',
      message: `layers[${layer}] executor ${executor}: experts that are merged must be of one shape, got ${part} [${shape.join(', ')}] of expert 0 and [${got.join(', ')}] of expert ${odd} (give all experts of the layer one width, or route pairs)`,
      details: { layer, part, expert: odd, shape, got },
    });
  }
}

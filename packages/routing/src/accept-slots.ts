/**
 * @file Running routes of kind `slots` on any executor that runs pairs: the rows of a slot are rows like any other.
 *
 * ```
 * hidden_TD ─dispatchᵀ─► slots_SD ─► executor (slot s → expert s / p, weight 1) ─► out_SD ─combine─► y_TD
 * ```
 * Letters: `T` tokens, `D` model width, `E` experts, `S = E·p` slots.
 */
import type { Task } from '@moebius/core';
import { assertDivides, assertShape, cloneTensor, disposeTree, matMul, ones, runOp } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { acceptRoute } from './accept-route.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import type {
  ExecutorGradients,
  ExecutorInput,
  ExecutorOutput,
  ExecutorSaved,
  ExpertExecutor,
} from './expert-executor.ts';
import { planTopK } from './plan-top-k.ts';
import type { SlotsRoute } from './route.ts';

interface SlotsState {
  /** Of the executor of pairs. */
  readonly rows: ExecutorSaved;
  /** float32 `[S, D]`, what the experts gave. */
  readonly out: Tensor2D;
  /** float32 `[T, D]`. */
  readonly hidden: Tensor2D;
  /** float32 `[T, S]`. */
  readonly dispatch: Tensor2D;
  /** float32 `[T, S]`. */
  readonly combine: Tensor2D;
}

/**
 * An executor that runs `slots` too (Soft MoE, Puigcerver et al. 2023): `slots = dispatchᵀ x`, expert `e` runs rows
 * `e·p … (e+1)·p` of `[S, D]`, `y = combine · out`. Experts may be of any kinds. All other routes go to `executor` as they are.
 *
 * @param executor - accepts `pairs`; it is given one pair of weight 1 for each slot
 * @returns an executor of the same name; `forward` refuses with `shape` a number of slots that the experts do not divide
 */
export function acceptSlots(executor: ExpertExecutor): ExpertExecutor {
  return acceptRoute(executor, {
    kind: 'slots',
    forward: (input, route) => slotsForward(input, route, executor),
    backward: (state: SlotsState, dy) => slotsBackward(executor, state, dy),
  });
}

function* slotsForward(
  input: ExecutorInput,
  route: SlotsRoute,
  executor: ExpertExecutor,
): Task<{ readonly y: Tensor2D; readonly state: SlotsState }> {
  const { hidden, experts, layer } = input;
  const plan = slotPlan(input, route);
  const rows = runOp('slots.dispatch', () => ({
    hidden: matMul<Tensor2D>(route.dispatch, hidden, true),
    weights: ones([plan.tokens]) as Tensor1D,
  }));
  let output: ExecutorOutput;
  try {
    const pairs = { kind: 'pairs' as const, plan, weights: rows.weights };
    output = yield* executor.forward({ layer, hidden: rows.hidden, route: pairs, experts });
  } finally {
    disposeTree(rows);
  }
  return runOp('slots.combine', () => {
    const state: SlotsState = {
      rows: output.saved,
      out: output.y,
      hidden: cloneTensor(hidden),
      dispatch: cloneTensor(route.dispatch),
      combine: cloneTensor(route.combine),
    };
    return { y: matMul<Tensor2D>(route.combine, output.y), state };
  });
}

function* slotsBackward(executor: ExpertExecutor, state: SlotsState, dy: Tensor2D): Task<ExecutorGradients> {
  const { out, hidden, dispatch, combine } = state;
  const dout_SD = runOp('slots.dcombine', () => matMul<Tensor2D>(combine, dy, true));
  let rows: ExecutorGradients;
  try {
    rows = yield* executor.backward(state.rows, dout_SD);
  } finally {
    dout_SD.dispose();
  }
  try {
    return runOp('slots.backward', () => ({
      hidden: matMul<Tensor2D>(dispatch, rows.hidden),
      route: {
        kind: 'slots' as const,
        dispatch: matMul<Tensor2D>(hidden, rows.hidden, false, true),
        combine: matMul<Tensor2D>(dy, out, false, true),
      },
      experts: rows.experts,
    }));
  } finally {
    disposeTree([rows.hidden, rows.route]);
  }
}

/** Slot `s` is a token of its own, of expert `s / p`. */
function slotPlan(
  { hidden, experts, layer }: ExecutorInput,
  { dispatch, combine }: SlotsRoute,
): DispatchPlan {
  const [tokens, slots] = dispatch.shape;
  const sizes = { T: tokens, S: slots };
  assertShape(hidden, 'T D', sizes, `layers[${layer}] hidden`);
  assertShape(combine, 'T S', sizes, `layers[${layer}] route combine`);
  assertDivides(slots, experts.experts, `layers[${layer}] slots of the route`);
  const each = slots / experts.experts;
  const ids = Int32Array.from({ length: slots }, (_, slot) => Math.floor(slot / each));
  return planTopK(ids, { tokens: slots, experts: experts.experts, topK: 1 });
}

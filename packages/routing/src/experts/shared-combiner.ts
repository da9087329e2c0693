/**
 * @file How the output of a shared expert, which every token sees, joins that of the routed ones: `y = a·routed + b·shared`, with
 * shares that are numbers or functions of the token.
 *
 * Letters: `T` tokens, `D` model width, `K` experts of a token.
 */
import { definePlugin } from '@moebius/core';
import type { Plugin, Rng } from '@moebius/core';
import { add, assertShape, cloneTree, concat, mul, runOp, slice, sum } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import type { InitialRequest, RouterParameters } from '../define-router.ts';
import { assertNoFaults, missingFunctions } from '../definition-faults.ts';

/** What is joined. Tensors are borrowed. */
export interface SharedInput {
  /** float32 `[T, D]`, what the experts read: shares may depend on it. */
  readonly x: Tensor2D;
  /** float32 `[T, D]`, weighted sum of the routed experts. */
  readonly routed: Tensor2D;
  /** float32 `[T, D]`, of the shared expert. */
  readonly shared: Tensor2D;
  /** Trained tensors of the combiner. */
  readonly parameters: RouterParameters;
  /** `K`. */
  readonly topK: number;
  /** Of this layer and step; absent outside training. */
  readonly rng?: Rng;
}

/** What a combiner returns; the caller owns it. */
export interface SharedOutput {
  /** float32 `[T, D]`. */
  readonly value: Tensor2D;
  /** float32 `[T, 2]`: share of routed and of shared. */
  readonly shares: Tensor2D;
  /** For `backward`; free with `disposeTree`. */
  readonly saved: unknown;
}

/** Gradients that reach a combiner. Borrowed. */
export interface SharedUpstream {
  /** float32 `[T, D]`. */
  readonly dy: Tensor2D;
  /** float32 `[T, 2]`, of a loss on the shares. Absent means zero. */
  readonly dshares?: Tensor2D;
}

/** Gradients of a combiner; the caller owns them. */
export interface SharedGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[T, D]`. */
  readonly drouted: Tensor2D;
  /** float32 `[T, D]`. */
  readonly dshared: Tensor2D;
  /** By the names of its tensors. */
  readonly parameters: RouterParameters;
}

/** A rule that joins routed and shared, by value. */
export interface SharedCombiner extends Plugin {
  /** Extension point. */
  readonly kind: 'shared-combiner';
  /** Shapes of its trained tensors. */
  parameterShapes(modelWidth: number): Readonly<Record<string, readonly number[]>>;
  /** First values of a tensor. Default: matrices normal, all else 0. */
  initialise?(parameter: string, request: InitialRequest): Float32Array;
  /** Joins rows `[T, D]`. Borrows in, owned out. */
  forward(input: SharedInput): SharedOutput;
  /** Gradients of one forward. Borrows in, owned out. */
  backward(saved: unknown, upstream: SharedUpstream): SharedGradients;
}

/** Shares as a pair of forward and backward. */
export interface ShareRule {
  /** Shapes of its trained tensors. */
  parameterShapes(modelWidth: number): Readonly<Record<string, readonly number[]>>;
  /** → float32 `[T, 2]`, and what backward needs. */
  forward(input: SharedInput): { readonly value: Tensor2D; readonly saved: unknown };
  /** Of `dshares` float32 `[T, 2]`. */
  backward(
    saved: unknown,
    dshares: Tensor2D,
  ): { readonly dx: Tensor2D; readonly parameters: RouterParameters };
}

/**
 * Checks and freezes a combiner.
 *
 * @param definition - name, tensors, and a pair of forward and backward
 * @throws `plugin` naming every fault
 */
export function defineSharedCombiner(definition: Omit<SharedCombiner, 'kind'>): SharedCombiner {
  const faults = missingFunctions(definition, ['parameterShapes', 'forward', 'backward']);
  assertNoFaults(`shared combiner "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, kind: 'shared-combiner' });
}

interface CombinerSaved {
  readonly routed: Tensor2D;
  readonly shared: Tensor2D;
  readonly shares: Tensor2D;
  readonly rule: unknown;
}

/**
 * A combiner from a rule for its shares `[T, 2]`.
 *
 * @param name - of the combiner
 * @param rule - shares, and their gradient
 */
export function combineByShares(name: string, rule: ShareRule): SharedCombiner {
  return defineSharedCombiner({
    name,
    parameterShapes: (modelWidth) => rule.parameterShapes(modelWidth),
    forward: (input) => {
      const { x, routed, shared } = input;
      const dims = {};
      assertShape(x, 'T D', dims, `shared combiner ${name} x`);
      assertShape(routed, 'T D', dims, `shared combiner ${name} routed`);
      assertShape(shared, 'T D', dims, `shared combiner ${name} shared`);
      return runOp(name, () => {
        const { value: shares, saved: kept } = rule.forward(input);
        const [a_T1, b_T1] = columnsOf(shares);
        const value = add<Tensor2D>(mul(a_T1, routed), mul(b_T1, shared));
        const saved: CombinerSaved = { ...cloneTree({ routed, shared, shares }), rule: kept };
        return { value, shares, saved };
      });
    },
    backward: (saved, { dy, dshares }) =>
      runOp(`${name}.backward`, () => {
        const { routed, shared, shares, rule: kept } = saved as CombinerSaved;
        const [a_T1, b_T1] = columnsOf(shares);
        const own = concat([rowSums(dy, routed), rowSums(dy, shared)], 1);
        const { dx, parameters } = rule.backward(kept, dshares === undefined ? own : add(own, dshares));
        return { dx, drouted: mul<Tensor2D>(a_T1, dy), dshared: mul<Tensor2D>(b_T1, dy), parameters };
      }),
  });
}

function columnsOf(shares_T2: Tensor2D): [Tensor2D, Tensor2D] {
  const tokens = shares_T2.shape[0];
  return [slice(shares_T2, [0, 0], [tokens, 1]), slice(shares_T2, [0, 1], [tokens, 1])];
}

function rowSums(left: Tensor, right: Tensor): Tensor2D {
  return sum<Tensor2D>(mul(left, right), 1, true);
}

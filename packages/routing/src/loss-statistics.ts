/**
 * @file Statistics of balance losses between the device, micro-batches and ranks.
 *
 * Letters: `L` layers.
 */
import { MoebiusError } from '@moebius/core';
import { add, concat, disposeTree, readHostSync, runOp } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import type { HostStatistics, LossGradient, LossStatistics } from './balance-loss.ts';
import type { RouterParameters } from './define-router.ts';

/**
 * Reads the sums of any number of layers (and losses) to the host in one synchronisation.
 *
 * @param statistics - borrowed
 * @returns the same entries on the host; caller owns
 */
export function readStatistics(statistics: readonly LossStatistics[]): HostStatistics[] {
  if (statistics.length === 0) return [];
  const values = runOp('readStatistics', () => readHostSync(concat(statistics.map((entry) => entry.sums))));
  let at = 0;
  return statistics.map(({ counts, sums }) => {
    const from = at;
    at += sums.size;
    return { counts: counts.slice(), sums: Float64Array.from(values.subarray(from, at)) };
  });
}

/**
 * Adds statistics of the same layer from two micro-batches or ranks.
 *
 * @returns fresh vectors; caller owns
 * @throws `shape` when the layouts differ
 */
export function addStatistics(left: HostStatistics, right: HostStatistics): HostStatistics {
  return {
    counts: addVector(left.counts, right.counts, 'counts'),
    sums: addVector(left.sums, right.sums, 'sums'),
  };
}

function addVector(left: Float64Array, right: Float64Array, subject: string): Float64Array {
  if (left.length === right.length) return left.map((entry, at) => entry + (right[at] ?? 0));
  throw new MoebiusError({
    code: 'shape',
    message: `statistics.${subject}: must have ${left.length} entries, got ${right.length} (add statistics of one loss and one layer)`,
    details: { subject, left: left.length, right: right.length },
  });
}

/**
 * Adds gradients of several losses for one layer. Takes its arguments: they are disposed.
 *
 * @param gradients - consumed
 * @returns one gradient; caller owns
 */
export function takeLossGradients(gradients: readonly LossGradient[]): LossGradient {
  if (gradients.length === 1 && gradients[0] !== undefined) return gradients[0];
  const total = runOp('takeLossGradients', () => {
    const dlogits = addPresent(gradients.map((gradient) => gradient.dlogits));
    const dscores = addPresent(gradients.map((gradient) => gradient.dscores));
    const parameters = addRouterGradients(gradients.map((gradient) => gradient.parameters));
    return {
      ...(dlogits === undefined ? {} : { dlogits }),
      ...(dscores === undefined ? {} : { dscores }),
      ...(parameters === undefined ? {} : { parameters }),
    };
  });
  const kept: readonly (Tensor | undefined)[] = tensorsOf(total);
  for (const gradient of gradients) {
    disposeTree(tensorsOf(gradient).filter((tensor) => !kept.includes(tensor)));
  }
  return total;
}

function tensorsOf({ dlogits, dscores, parameters = {} }: LossGradient): readonly (Tensor | undefined)[] {
  return [dlogits, dscores, ...Object.values(parameters)];
}

/**
 * Adds gradients of a router's trained tensors `[…]`, name by name.
 *
 * @param terms - any of them may be absent; borrowed
 * @returns sums, or the only term itself; undefined when there is none. Call it in a scope.
 */
export function addRouterGradients(
  terms: readonly (RouterParameters | undefined)[],
): RouterParameters | undefined {
  const total: { [name: string]: Tensor } = {};
  for (const [name, tensor] of terms.flatMap((term) => Object.entries(term ?? {}))) {
    const before = total[name];
    total[name] = before === undefined ? tensor : add(before, tensor);
  }
  return Object.keys(total).length === 0 ? undefined : total;
}

function addPresent(terms: readonly (Tensor2D | undefined)[]): Tensor2D | undefined {
  let total: Tensor2D | undefined;
  for (const term of terms)
    if (term !== undefined) total = total === undefined ? term : add<Tensor2D>(total, term);
  return total;
}

/**
 * @file One optimizer step: micro-batches forward and backward, gradients summed, clipped, applied.
 *
 * The cross-entropy of a step is the mean over all its counted targets: micro-batch i contributes with weight
 * count_i / count. Balance losses are those of the whole step (or of each micro-batch, when the run says so).
 */
import { MoebiusError, isMoebiusError, runSync } from '@moebius/core';
import type { Rng } from '@moebius/core';
import type {
  DecoderModel,
  LayerRouting,
  LossOutput,
  ParameterGradients,
  WeightedLoss,
} from '@moebius/model';
import { add, disposeTree } from '@moebius/tensor';
import type { OptimizerSettings, Tensor, Treatments } from '@moebius/tensor';

import type { TokenRows } from '../data/batch-sampler.ts';
import { reduceBalance } from './balance-losses.ts';
import type { ReducedLoss } from './balance-losses.ts';
import { explainFailure, lossNotFinite } from './explain-numerics.ts';

/** What a step does. */
export interface StepRequest {
  /** Number of the step, from 1, for messages. */
  readonly step: number;
  /** Micro-batches. */
  readonly batches: readonly TokenRows[];
  /** Balance losses. */
  readonly balance: readonly WeightedLoss[];
  /** Whether balance is that of the whole step or of each micro-batch. */
  readonly balanceOver: 'step' | 'micro-batch';
  /** Coefficient of the z-loss on the output logits. */
  readonly zLossCoefficient: number;
  /** Optimizer with this step's learning rate. */
  readonly optimizer: OptimizerSettings;
  /** Parameters that are treated in their own way. */
  readonly treatments: Treatments;
  /** Largest gradient norm; null does not clip. */
  readonly clipNorm: number | null;
  /** Of the run; a pass forks its own by step and micro-batch. Absent: routers draw nothing. */
  readonly rng?: Rng;
}

/** What a step did. */
export interface StepOutcome {
  /** Mean cross-entropy of the counted targets, nats. */
  readonly loss: number;
  /** With weighted auxiliary losses. */
  readonly totalLoss: number;
  /** Auxiliary losses without coefficients. */
  readonly aux: { readonly [name: string]: number };
  /** Norm of the gradients before clipping. */
  readonly gradientNorm: number;
  /** Pairs of each expert over all micro-batches, by layer. */
  readonly loads: readonly LayerCount[];
  /** Counted targets. */
  readonly tokens: number;
}

/** Where the tokens of one layer went in a step. */
export interface LayerCount {
  /** Layer index. */
  readonly layer: number;
  /** `[E]`: pairs. */
  readonly load: readonly number[];
  /** Tokens that were not masked. */
  readonly tokens: number;
}

/**
 * Runs one step and updates the model's parameters.
 *
 * @param model - its parameters change
 * @throws `numerics` naming step, layer and tensor when a loss or gradient is not finite: nothing was updated then
 */
export function runTrainStep(model: DecoderModel, request: StepRequest): StepOutcome {
  try {
    return trainStep(model, request);
  } catch (error) {
    if (!isMoebiusError(error, 'numerics')) throw error;
    throw explainFailure(error, request.step, model);
  }
}

function trainStep(model: DecoderModel, request: StepRequest): StepOutcome {
  const { batches, balance } = request;
  const counts = batches.map(({ targets }) =>
    targets.reduce((sum, target) => sum + (target >= 0 ? 1 : 0), 0),
  );
  const tokens = counts.reduce((sum, count) => sum + count, 0);
  const isReduced = batches.length > 1 && balance.length > 0 && request.balanceOver === 'step';
  const inputs = batches.map(({ ids, targets, rows }) => ({ ids, targets, batch: rows }));
  const rngs = inputs.map((_, at) => request.rng?.fork(request.step).fork(at));
  const reduced = isReduced
    ? reduceBalance(model, inputs, { losses: balance, rngs, step: request.step })
    : undefined;
  const tally = createTally();
  let gradients: ParameterGradients = {};
  try {
    for (const [at, input] of inputs.entries()) {
      const weight = (counts[at] ?? 0) / Math.max(1, tokens);
      const rng = rngs[at];
      const asked = { balance, zLossCoefficient: request.zLossCoefficient, step: request.step };
      const output = runSync(model.loss(input, rng === undefined ? asked : { ...asked, rng }));
      tally.add(output, weight, 1 / inputs.length);
      const all = backward(model, output, { weight, reduced, share: 1 / inputs.length });
      gradients = takeSum(gradients, takeTrained(all, request.treatments));
    }
    const report = model.parameters.update(gradients, {
      optimizer: request.optimizer,
      treatments: request.treatments,
      ...(request.clipNorm === null ? {} : { clipNorm: request.clipNorm }),
    });
    const finished = tally.finish(reduced);
    model.routerState.advance(finished.loads, request.step);
    return { ...finished, gradientNorm: report.norm, tokens };
  } finally {
    disposeTree(gradients);
  }
}

interface BackwardShare {
  /** Share of the step's counted targets. */
  readonly weight: number;
  /** Balance of the whole step; without it each micro-batch's own counts, weighted by `share`. */
  readonly reduced: readonly ReducedLoss[] | undefined;
  readonly share: number;
}

function backward(model: DecoderModel, output: LossOutput, options: BackwardShare): ParameterGradients {
  const { saved } = output;
  if (saved === null)
    throw new MoebiusError({ code: 'internal', message: 'internal: a training loss saved nothing' });
  const { weight, reduced, share } = options;
  if (!Number.isFinite(output.total)) {
    disposeTree(saved);
    throw lossNotFinite(output);
  }
  if (reduced === undefined) return runSync(model.backward(saved, { scale: weight, auxScale: share }));
  return runSync(model.backward({ ...saved, balance: reduced }, { scale: weight, auxScale: 1 }));
}

/** The gradients of what is trained; those of frozen parameters are freed at once. */
function takeTrained(gradients: ParameterGradients, treatments: Treatments): ParameterGradients {
  const entries = Object.entries(gradients);
  const isFrozen = ([id]: readonly [string, Tensor]): boolean => treatments[id]?.frozen === true;
  disposeTree(entries.filter(isFrozen).map(([, gradient]) => gradient));
  return Object.fromEntries(entries.filter((entry) => !isFrozen(entry)));
}

/** Adds two sets of gradients; both are consumed. */
function takeSum(left: ParameterGradients, right: ParameterGradients): ParameterGradients {
  const total: { [id: string]: Tensor } = { ...left };
  for (const [id, gradient] of Object.entries(right)) {
    const before = total[id];
    if (before === undefined) {
      total[id] = gradient;
      continue;
    }
    total[id] = add(before, gradient);
    disposeTree([before, gradient]);
  }
  return total;
}

interface Tally {
  add(output: LossOutput, weight: number, share: number): void;
  finish(
    reduced: readonly ReducedLoss[] | undefined,
  ): Pick<StepOutcome, 'loss' | 'totalLoss' | 'aux' | 'loads'>;
}

/** Sums what micro-batches report. */
function createTally(): Tally {
  let loss = 0;
  const values: { [name: string]: number } = {};
  const coefficients: { [name: string]: number } = {};
  const loads: { [layer: number]: LayerCount } = {};
  const addLoad = ({ layer, stats, tokens }: LayerRouting): void => {
    const before = loads[layer];
    const load = Array.from(stats.load, (count, expert) => count + (before?.load[expert] ?? 0));
    loads[layer] = { layer, load, tokens: tokens + (before?.tokens ?? 0) };
  };
  return {
    add(output, weight, share) {
      loss += weight * output.crossEntropy;
      for (const [name, { value, coefficient }] of Object.entries(output.aux)) {
        values[name] = (values[name] ?? 0) + share * value;
        coefficients[name] = coefficient;
      }
      output.routing.forEach(addLoad);
    },
    finish(reduced) {
      for (const one of reduced ?? []) values[one.loss.name] = one.value;
      const names = Object.keys(values);
      const extra = names.reduce((sum, name) => sum + (values[name] ?? 0) * (coefficients[name] ?? 0), 0);
      return {
        loss,
        totalLoss: loss + extra,
        aux: values,
        loads: Object.values(loads),
      };
    },
  };
}

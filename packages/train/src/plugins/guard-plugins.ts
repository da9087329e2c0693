/**
 * @file Losses and executors of others, watched: what they throw and what they return is checked where it enters the
 * run, so that a fault names the plug-in, the layer, and the shape, and not an operation far behind it.
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `N` routed pairs.
 */
import { MoebiusError, isMoebiusError } from '@moebius/core';
import type { Task } from '@moebius/core';
import type { WeightedLoss } from '@moebius/model';
import { defineBalanceLoss, defineExecutor } from '@moebius/routing';
import type {
  BalanceLoss,
  ExecutorGradients,
  ExecutorInput,
  ExecutorOutput,
  ExecutorSaved,
  ExpertExecutor,
  LossStatistics,
} from '@moebius/routing';
import { disposeTree } from '@moebius/tensor';

/** Where in a run a plug-in is asked. */
interface Place {
  /** Kind and name. */
  readonly who: string;
  readonly action: string;
  /** `layer 3`; null where the plug-in is not asked about one layer. */
  readonly where: string | null;
}

/**
 * The same loss, checked at every call.
 *
 * @param weighted - with its coefficient
 */
export function guardLoss({ loss, coefficient }: WeightedLoss): WeightedLoss {
  const who = `balance loss "${loss.name}"`;
  const guarded = defineBalanceLoss({
    ...loss,
    // A loss does not know its layer before the gradient is asked for.
    statistics: (observation) =>
      watch({ who, action: 'statistics', where: null }, () =>
        checkStatistics(loss.statistics(observation), who),
      ),
    value: (layers) =>
      watch({ who, action: 'value', where: null }, () => {
        const value: unknown = loss.value(layers);
        if (typeof value === 'number') return value;
        throw refuse({ who, action: 'value', where: null }, 'return a number', describe(value));
      }),
    gradient: (observation, options) => {
      const place = { who, action: 'gradient', where: `sparse layer ${options.layer}` };
      return watch(place, () => checkGradient(loss.gradient(observation, options), observation, place));
    },
  });
  return { loss: guarded, coefficient };
}

function checkStatistics(statistics: LossStatistics, who: string): LossStatistics {
  const place = { who, action: 'statistics', where: null };
  const { counts, sums } = (statistics ?? {}) as Partial<LossStatistics>;
  if (!(counts instanceof Float64Array)) {
    disposeTree(sums);
    throw refuse(place, 'return counts as a Float64Array', describe(counts));
  }
  if (shapeOf(sums)?.length === 1) return statistics;
  disposeTree(sums);
  throw refuse(place, 'return sums of shape [any]', describe(sums));
}

function checkGradient(
  gradient: ReturnType<BalanceLoss['gradient']>,
  { plan }: { readonly plan: { readonly tokens: number; readonly experts: number } },
  place: Place,
): ReturnType<BalanceLoss['gradient']> {
  const expected = `[${plan.tokens}, ${plan.experts}]`;
  for (const part of ['dlogits', 'dscores'] as const) {
    const value: unknown = gradient?.[part];
    if (value === undefined || describe(value) === expected) continue;
    disposeTree(gradient);
    throw refuse(place, `return ${part} of shape ${expected} (tokens, experts)`, describe(value));
  }
  return gradient;
}

/**
 * The same executor, checked at every call.
 *
 * @param executor - any
 */
export function guardExecutor(executor: ExpertExecutor): ExpertExecutor {
  const who = `executor "${executor.name}"`;
  return defineExecutor({
    ...executor,
    *forward(input) {
      const place = { who, action: 'forward', where: `layer ${input.layer}` };
      const output = yield* watchTask(place, executor.forward(input));
      const { state, expected } = checkOutput(output, input, place);
      return { y: output.y, saved: { executor: executor.name, state: { state, expected } } };
    },
    *backward(saved, dy) {
      const { state, expected } = saved.state as GuardedState;
      const place = { who, action: 'backward', where: `layer ${expected.layer}` };
      return checkGradients(yield* watchTask(place, executor.backward(state, dy)), expected, place);
    },
  });
}

/** What the backward pass of a layer must give. */
interface ExpectedGradients {
  readonly layer: number;
  readonly hidden: string;
  readonly route: string;
  readonly pairs: string;
  readonly experts: number;
}

interface GuardedState {
  readonly state: ExecutorSaved;
  readonly expected: ExpectedGradients;
}

function checkOutput(output: ExecutorOutput, input: ExecutorInput, place: Place): GuardedState {
  const { hidden, route, layer, experts } = input;
  const expected: ExpectedGradients = {
    layer,
    hidden: describe(hidden),
    route: route.kind,
    pairs: route.kind === 'pairs' ? describe(route.weights) : '',
    experts: experts.experts,
  };
  const got = describe(output?.y);
  if (got === expected.hidden) return { state: output.saved, expected };
  disposeTree(output);
  throw refuse(place, `return y of shape ${expected.hidden} (tokens, model width)`, got);
}

function checkGradients(
  gradients: ExecutorGradients,
  expected: ExpectedGradients,
  place: Place,
): ExecutorGradients {
  const route = gradients?.route;
  const checks: readonly (readonly [name: string, expected: string, got: string])[] = [
    ['hidden of shape', expected.hidden, describe(gradients?.hidden)],
    ['route of kind', expected.route, String(route?.kind)],
    ['route.weights of shape', expected.pairs, route?.kind === 'pairs' ? describe(route.weights) : ''],
    ['experts of length', String(expected.experts), String(gradients?.experts?.length)],
  ];
  const wrong = checks.find(([, wanted, got]) => wanted !== got);
  if (wrong === undefined) return gradients;
  disposeTree(gradients);
  throw refuse(place, `return ${wrong[0]} ${wrong[1]}`, wrong[2]);
}

/** Runs a call of a plug-in; what it throws becomes an error that names it, unless it is one of ours already. */
function watch<T>(place: Place, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw asPluginError(error, place);
  }
}

function* watchTask<T>(place: Place, task: Task<T>): Task<T> {
  try {
    return yield* task;
  } catch (error) {
    throw asPluginError(error, place);
  }
}

function asPluginError(error: unknown, place: Place): unknown {
  if (isMoebiusError(error)) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new MoebiusError({
    code: 'plugin',
    message: `${subjectOf(place)}: must not throw, got "${reason}" (fix or remove it)`,
    details: { ...place },
    cause: error,
  });
}

function refuse(place: Place, expectation: string, got: string): MoebiusError {
  return new MoebiusError({
    code: 'plugin',
    message: `${subjectOf(place)}: must ${expectation}, got ${got} (fix or remove it)`,
    details: { ...place, expectation, got },
  });
}

function subjectOf({ who, action, where }: Place): string {
  return where === null ? `${who}, ${action}` : `${who}, ${action} of ${where}`;
}

/** A tensor's shape, or what the value is instead. */
function describe(value: unknown): string {
  const shape = shapeOf(value);
  if (shape !== undefined) return `[${shape.join(', ')}]`;
  if (value === null || value === undefined) return 'nothing';
  return typeof value === 'object' ? 'an object' : `${typeof value} ${JSON.stringify(value)}`;
}

function shapeOf(value: unknown): readonly number[] | undefined {
  if (typeof value !== 'object' || value === null || !('shape' in value)) return undefined;
  return Array.isArray(value.shape) ? (value.shape as number[]) : undefined;
}

/**
 * @file The frame of every operation on a whole model: each tensor of the new model says which tensors of the old one it is made
 * of, and how. What nobody asked for is reported, so that nothing is lost in silence.
 */
import { MoebiusError } from '@moebius/core';

import type { ModelConfig } from '../config.ts';
import { countParameters } from '../count.ts';
import { describeBuffers, describeTensors, type ParameterDescription } from '../describe-parameters.ts';
import { describeParts, type ModelParts } from '../model-parts.ts';
import type { ModelValues } from './model-values.ts';

/** How a tensor came to be: as it was, a copy or part of another, several merged, rows taken along, or new. */
export type TensorFate = 'kept' | 'renamed' | 'copied' | 'cut' | 'merged' | 'edited' | 'fresh';

/** One tensor of the new model. */
export interface TensorOrigin {
  /** Its name in a file. */
  readonly id: string;
  /** How it was made. */
  readonly fate: TensorFate;
  /** The tensors of the old model that it was made of. */
  readonly from: readonly string[];
}

/** What an operation did to a model. */
export interface SurgeryReport {
  /** Every tensor of the new model, in its order. */
  readonly tensors: readonly TensorOrigin[];
  /** Tensors of the old model that nothing was made of. */
  readonly dropped: readonly string[];
  /** Layers that were changed, ascending. */
  readonly layers: readonly number[];
  /** Whether the new model computes what the old one did, to rounding. */
  readonly isExact: boolean;
  /** Why it is not exact; or what to know. */
  readonly notes: readonly string[];
  /** Parameters before and after. */
  readonly parameters: { readonly before: number; readonly after: number };
}

/** A changed model, and what was done. */
export interface Surgery {
  /** The new model; reads from the old one, so keep that open. Closing it closes the old one. */
  readonly values: ModelValues;
  /** What was done, tensor by tensor. */
  readonly report: SurgeryReport;
}

/** Where a new tensor comes from; `null`: it is kept as it is. */
export interface TensorPlan extends Omit<TensorOrigin, 'id'> {
  /** Its values, `[…]` of its shape; fresh or borrowed. */
  make(): Float32Array;
}

/** What {@link operate} is told. */
export interface Operation {
  /** The old model. */
  readonly before: ModelValues;
  /** The new configuration; its `moebius` section is made from the parts. */
  readonly config: ModelConfig;
  /** The new parts. */
  readonly parts: ModelParts;
  /** Layers that change. */
  readonly layers: readonly number[];
  /** Why the result is not exact, if it is not. */
  readonly isExact: boolean;
  readonly notes: readonly string[];
  /** How a tensor is made; null: it is that of the same name. */
  plan(description: ParameterDescription): TensorPlan | null;
}

/** Runs an operation: nothing is read yet, the new values are made as they are asked for. */
export function operate(operation: Operation): Surgery {
  const { before, parts, layers, isExact, notes } = operation;
  const { moebius: _old, ...plain } = operation.config;
  const extension = describeParts(plain, parts);
  const config: ModelConfig = Object.freeze({
    ...plain,
    ...(extension === undefined ? {} : { moebius: extension }),
  });
  const old = new Map(
    [...describeTensors(before.config, before.parts), ...describeBuffers(before.config, before.parts)].map(
      (entry) => [entry.id, entry],
    ),
  );
  const plans = new Map<string, TensorPlan>();
  for (const description of [...describeTensors(config, parts), ...describeBuffers(config, parts)]) {
    const { id, shape } = description;
    const plan = operation.plan(description) ?? keep(id, old.get(id), shape, before);
    plans.set(id, plan);
  }
  const used = new Set([...plans.values()].flatMap(({ from }) => from));
  const values: ModelValues = {
    config,
    parts,
    generation: before.generation,
    read(id) {
      const plan = plans.get(id);
      if (plan !== undefined) return plan.make();
      throw new MoebiusError({
        code: 'registry',
        message: `parameter: must be one of the model, got "${id}"`,
        details: { id },
      });
    },
    close: () => before.close(),
  };
  const report: SurgeryReport = {
    tensors: [...plans].map(([id, { fate, from }]) => ({ id, fate, from })),
    dropped: [...old.keys()].filter((id) => !used.has(id)),
    layers: layers.toSorted((a, b) => a - b),
    isExact,
    notes,
    parameters: {
      before: countParameters(before.config, before.parts),
      after: countParameters(config, parts),
    },
  };
  return { values, report };
}

function keep(
  id: string,
  was: ParameterDescription | undefined,
  shape: readonly number[],
  before: ModelValues,
): TensorPlan {
  if (was !== undefined && was.shape.join() === shape.join())
    return { fate: 'kept', from: [id], make: () => before.read(id) };
  const got = was === undefined ? 'none' : `[${was.shape.join(', ')}]`;
  throw new MoebiusError({
    code: 'checkpoint',
    message: `internal: surgery must say where ${id} [${shape.join(', ')}] comes from, got ${got} in the old model`,
    details: { id, shape, got },
  });
}

/** Remembers what was made last: neighbouring tensors are parts of one expert. */
export function rememberLast<K, V>(make: (key: K) => V): (key: K) => V {
  let last: { readonly key: K; readonly value: V } | undefined;
  return (key) => {
    if (last === undefined || last.key !== key) last = { key, value: make(key) };
    return last.value;
  };
}

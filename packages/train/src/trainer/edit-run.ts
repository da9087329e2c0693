/**
 * @file A run whose experts are edited between two sessions: its checkpoint under the new experts, so that it goes on with every
 * weight and moment of those that stay.
 *
 * Everything that a checkpoint holds follows: trained weights, average and best, optimizer state, buffers of routers, progress.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import { MoebiusError, runAsync, runSync } from '@moebius/core';
import type { StateReader, StateTensor, StateUnit, StateWriter } from '@moebius/core';
import {
  describeParameters,
  familyOf,
  modelConfigToJson,
  parseModelConfig,
  readModelConfig,
  resolveParts,
} from '@moebius/model';
import type { ModelConfig, ModelParts } from '@moebius/model';
import { describeBuffers, editModelExperts } from '@moebius/model/surgery';
import type { EditModelOptions, ModelEdit, ModelValues, Surgery } from '@moebius/model/surgery';
import type { HostOptimizerState, HostTensor } from '@moebius/routing/surgery';
import { createStateFileWriter, openStateFile } from '@moebius/safetensors';

import { checkpointFile, describeIdentity } from './run-checkpoint.ts';
import type { TrainConfig } from './train-config.ts';

/** The model of a run: without its numbers. */
export interface RunModel {
  /** Its configuration. */
  readonly config: ModelConfig;
  /** Its routers and kinds of experts. */
  readonly parts: ModelParts;
}

/**
 * The model of a run that was stopped before it wrote its model folder: its configuration, with the vocabulary of the checkpoint.
 *
 * @param from - folder of the run
 * @param config - of the run
 * @throws `checkpoint` when it has none; `configuration` when its routers or experts are plug-ins: their names are in the model folder
 */
export function modelOfRun(from: string, config: TrainConfig): RunModel {
  if (config.router !== undefined || config.expertKind !== undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${from}: must have a model folder, as its routers or experts are plug-ins, got none (let the run end once, then edit it)`,
      details: { from },
    });
  }
  if (typeof config.model === 'string') return withParts(readModelConfig(config.model));
  const reader = openCheckpoint(from);
  try {
    const { names } = familyOf(parseModelConfig({ vocab_size: 1, ...config.model }, 'model'));
    const [vocab_size] = runSync(reader.read('embedding')).tensors[names.embedding]?.shape ?? [];
    return withParts(parseModelConfig({ vocab_size, ...config.model }, 'model'));
  } finally {
    reader.close();
  }
}

function withParts(config: ModelConfig): RunModel {
  return { config, parts: resolveParts(config) };
}

function openCheckpoint(from: string): ReturnType<typeof openStateFile> {
  const file = checkpointFile(from);
  if (existsSync(file)) return openStateFile(file);
  throw new MoebiusError({
    code: 'checkpoint',
    message: `edit: expected a checkpoint at ${file}, got none (edit the model folder instead)`,
    details: { file },
  });
}

/** What {@link editRunExperts} is told. */
export interface EditRunOptions {
  /** Folder of the run; it is only read. */
  readonly from: string;
  /** Folder of the new run; its checkpoint is written, and nothing else. */
  readonly to: string;
  /** Configuration of the run. */
  readonly config: TrainConfig;
  /** Its model: that of its model folder, or {@link modelOfRun} for a run that has none yet. */
  readonly model: RunModel;
  /** Which experts go and come. */
  readonly edit: EditModelOptions;
  /** Length of the new run, its past included. Default: as before, which leaves nothing to do for a run that has ended. */
  readonly duration?: TrainConfig['duration'];
}

/** The new run. */
export interface EditedRun {
  /** Its configuration, to be written as run.json: another model, another output, no `initFrom`. */
  readonly config: TrainConfig;
  /** What was done to the trained weights. */
  readonly surgery: Surgery;
  /** Parameters that have optimizer state before and after. */
  readonly stateful: { readonly before: number; readonly after: number };
}

/**
 * Writes the checkpoint of a run whose experts were edited.
 *
 * @param options - the run, its model, which experts
 * @returns the configuration with which it is resumed
 * @throws `checkpoint` when the run has none or it is damaged; as `editModelExperts`; `io` when the disk fails
 */
export async function editRunExperts(options: EditRunOptions): Promise<EditedRun> {
  const { from, to, config, model } = options;
  const reader = openCheckpoint(from);
  const target = checkpointFile(to);
  const writer = createStateFileWriter(target);
  try {
    const metadata = runSync(reader.metadata());
    const units = runSync(reader.units()).map(({ id }) => id);
    const names = [
      ...new Set(units.filter((id) => id.includes(':')).map((id) => id.slice(0, id.indexOf(':')))),
    ];
    const edited = editCopy(reader, '', options);
    const { duration = config.duration } = options;
    const next = configAfter({ ...config, duration }, { to, model: edited.edit.values.config });
    await mkdir(dirname(target), { recursive: true });
    await runAsync(writer.begin({ ...metadata, identity: identityAfter(metadata['identity'], next) }));
    await putUnits(writer, edited);
    for (const name of names) await putUnits(writer, editCopy(reader, `${name}:`, options));
    for (const unit of bufferUnits(edited, { reader, model })) await runAsync(writer.put(unit));
    await runAsync(writer.commit());
    return {
      config: next,
      surgery: edited.edit,
      stateful: { before: edited.stateBefore, after: Object.keys(edited.state).length },
    };
  } catch (error) {
    await runAsync(writer.abort());
    throw error;
  } finally {
    reader.close();
  }
}

/** One set of weights after the edit. */
interface EditedCopy {
  readonly prefix: string;
  readonly edit: ModelEdit;
  readonly state: { readonly [id: string]: HostOptimizerState };
  readonly stateBefore: number;
  /** Of the old units. */
  version(unit: string): number;
}

function editCopy(reader: StateReader, prefix: string, { model, edit }: EditRunOptions): EditedCopy {
  const unitOf = new Map<string, string>();
  for (const { id, unit } of describeParameters(model.config, model.parts))
    unitOf.set(id, `${prefix}${unit}`);
  for (const { id, unit } of describeBuffers(model.config, model.parts)) unitOf.set(id, unit);
  let last: StateUnit | undefined;
  const load = (unit: string): StateUnit => {
    if (last?.id !== unit) last = runSync(reader.read(unit));
    return last as StateUnit;
  };
  const values: ModelValues = {
    ...model,
    generation: { bos_token_id: null, eos_token_id: null, pad_token_id: null },
    read: (id) => floatsOf(load(unitOf.get(id) ?? id).tensors[id], id),
    close: () => undefined,
  };
  const done = editModelExperts(values, edit);
  const state: { [id: string]: HostOptimizerState } = {};
  for (const unit of new Set(unitOf.values())) Object.assign(state, readState(load(unit)));
  return {
    prefix,
    edit: done,
    state: done.editState(state),
    stateBefore: Object.keys(state).length,
    version: (unit) => load(unit).version,
  };
}

/** Weights and optimizer state, unit by unit as a store would write them. */
async function putUnits(writer: StateWriter, { prefix, edit, state, version }: EditedCopy): Promise<void> {
  const { values, report } = edit;
  const origins = new Map(report.tensors.map((origin) => [origin.id, origin]));
  const descriptions = describeParameters(values.config, values.parts);
  const oldUnit = new Map(descriptions.map(({ id, unit }) => [id, unit]));
  for (const unit of new Set(descriptions.map((description) => description.unit))) {
    const tensors: { [name: string]: StateTensor } = {};
    let age = 0;
    for (const { id, shape } of descriptions.filter((description) => description.unit === unit)) {
      tensors[id] = toState({ shape, data: values.read(id) });
      Object.assign(tensors, writeState(id, state[id]));
      const origin = origins.get(id);
      const [source] = origin?.from ?? [];
      const isNew = origin?.fate === 'copied' || origin?.fate === 'fresh';
      if (source !== undefined && !isNew)
        age = Math.max(age, version(`${prefix}${unitOfSource(source, oldUnit)}`));
    }
    await runAsync(writer.put({ id: `${prefix}${unit}`, version: age, tensors }));
  }
}

/** An expert's unit has the name of its layer and number, whichever model it is of. */
function unitOfSource(id: string, units: ReadonlyMap<string, string>): string {
  const [, layer, expert] = /\.(\d+)\.mlp\.experts\.(\d+)\./.exec(id) ?? [];
  return expert === undefined ? (units.get(id) ?? id) : `layers.${layer}.experts.${expert}`;
}

/** What routers keep beside trained tensors. */
function bufferUnits(
  { edit: { values } }: EditedCopy,
  { reader, model }: { readonly reader: StateReader; readonly model: EditRunOptions['model'] },
): StateUnit[] {
  const before = new Set(describeBuffers(model.config, model.parts).map(({ unit }) => unit));
  const buffers = describeBuffers(values.config, values.parts);
  return [...before].map((unit) => {
    const own = buffers.filter((buffer) => buffer.unit === unit);
    const tensors = Object.fromEntries(
      own.map(({ id, shape }) => [id, toState({ shape, data: values.read(id) })]),
    );
    return { id: unit, version: runSync(reader.read(unit)).version, tensors };
  });
}

function configAfter(
  config: TrainConfig,
  { to, model }: { readonly to: string; readonly model: ModelConfig },
): TrainConfig {
  const { num_experts, num_experts_per_tok, moebius } = model;
  const given: { readonly [key: string]: unknown } =
    typeof config.model === 'string' ? modelConfigToJson(model) : config.model;
  const { num_local_experts: _alias, moebius: _old, ...fields } = given;
  const parts = moebius === undefined || _old === undefined ? {} : { moebius };
  return {
    ...config,
    output: to,
    initFrom: null,
    model: { ...fields, num_experts, num_experts_per_tok, ...parts },
  };
}

/** The identity of the new run: that of the old, of the text it was trained on too, with another configuration. */
function identityAfter(identity: string | undefined, config: TrainConfig): string {
  const { tokenizerHash, trainingTokens } = JSON.parse(identity ?? '{}') as {
    tokenizerHash: string;
    trainingTokens: number;
  };
  return describeIdentity({ config, tokenizerHash, trainingTokens });
}

/** What an optimizer keeps, as `exportParameters` names it: `<id>#<rule>` is the count, `<id>#<rule>.<slot>` the rest. */
function readState({ tensors }: StateUnit): { [id: string]: HostOptimizerState } {
  const state: { [id: string]: HostOptimizerState } = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    const [, id, rule] = /^(.*)#([^.#]+)$/.exec(name) ?? [];
    if (id === undefined || rule === undefined) continue;
    const start = `${name}.`;
    const slots = Object.entries(tensors)
      .filter(([other]) => other.startsWith(start))
      .map(([other, { shape, bytes }]): readonly [string, HostTensor] => [
        other.slice(start.length),
        { shape, data: floatsOf({ dtype: 'F32', shape, bytes }, other) },
      ]);
    state[id] = {
      rule,
      step: Number(new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset).getBigInt64(0, true)),
      slots: Object.fromEntries(slots),
    };
  }
  return state;
}

function writeState(id: string, state: HostOptimizerState | undefined): { [name: string]: StateTensor } {
  if (state === undefined) return {};
  const { rule, step, slots } = state;
  const count = new Uint8Array(new BigInt64Array([BigInt(step)]).buffer);
  return {
    ...Object.fromEntries(
      Object.entries(slots).map(([slot, tensor]) => [`${id}#${rule}.${slot}`, toState(tensor)]),
    ),
    [`${id}#${rule}`]: { dtype: 'I64', shape: [], bytes: count },
  };
}

function floatsOf(tensor: StateTensor | undefined, name: string): Float32Array {
  if (tensor?.dtype === 'F32') return new Float32Array(tensor.bytes.slice().buffer);
  throw new MoebiusError({
    code: 'checkpoint',
    message: `checkpoint, tensor "${name}": must be F32, got ${tensor?.dtype ?? 'nothing'}`,
    details: { name },
  });
}

function toState({ shape, data }: HostTensor): StateTensor {
  return { dtype: 'F32', shape, bytes: new Uint8Array(data.slice().buffer) };
}

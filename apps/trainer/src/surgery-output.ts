/** @file What the commands that rewrite a model share: where it goes, what is written, what is told. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import { countActiveParameters } from '@moebius/model';
import type { StoredDType } from '@moebius/model';
import { saveModelValues } from '@moebius/model/surgery';
import type { ModelValues, Surgery } from '@moebius/model/surgery';

import type { CommandContext } from './host.ts';
import { formatCount, formatDuration } from './terminal/format.ts';

/** Flags of every command that writes a model. */
export interface OutputFlags {
  readonly out: string;
  readonly overwrite?: boolean;
  readonly dtype?: StoredDType;
}

/** What belongs to a model beside its weights. */
const companions: readonly string[] = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
];

/** What {@link writeSurgery} is told. */
export interface SurgeryOutput {
  /** The command. */
  readonly event: string;
  /** Folder of the old model. */
  readonly source: string;
  /** Where to. */
  readonly target: string;
  /** The new model, and what was done. */
  readonly surgery: Surgery;
  readonly dtype?: StoredDType | undefined;
  /** When the command began. */
  readonly began: number;
}

/**
 * The folder to write to.
 *
 * @throws `configuration` when it is there already and `--overwrite` is not given, or is the model itself
 */
export async function findTarget(
  { out, overwrite = false }: OutputFlags,
  source: string,
  workingFolder: string,
): Promise<string> {
  const target = resolve(workingFolder, out);
  const fail = (got: string, remedy: string): never => {
    throw new MoebiusError({
      code: 'configuration',
      message: `--out ${out}: must be a new folder, got ${got} (${remedy})`,
      details: { out, got },
    });
  };
  if (source === target || source.startsWith(`${target}/`))
    fail('the model itself', 'choose another folder: the old model is kept');
  const status = await stat(target).catch(() => undefined);
  if (status === undefined) return target;
  if (!status.isDirectory()) fail('a file', 'choose another folder');
  const names = await readdir(target);
  if (names.length > 0 && !overwrite)
    fail(`one with ${names.length} files`, 'choose another, or give --overwrite');
  return target;
}

/** The element type that a model's file has, where we can write it. */
export async function storedType(folder: string): Promise<StoredDType> {
  const raw = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as {
    dtype?: unknown;
    torch_dtype?: unknown;
  };
  const type = raw.dtype ?? raw.torch_dtype;
  return type === 'bfloat16' || type === 'float16' ? type : 'float32';
}

/** Writes the new model with what belongs to it, and tells what was done. */
export async function writeSurgery(output: SurgeryOutput, context: CommandContext): Promise<void> {
  const { source, target, surgery, began } = output;
  const dtype = output.dtype ?? (await storedType(source));
  const values = withProgress(surgery.values, surgery.report.tensors.length, context);
  const { totalBytes: bytes } = saveModelValues(target, values, {
    dtype,
    files: await readCompanions(source),
  });
  const seconds = (context.host.nowMs() - began) / 1000;
  tell(output, { dtype, bytes, seconds }, context);
}

/** Numbers that say on a terminal how far they have been read. */
function withProgress(values: ModelValues, count: number, { host, terminal }: CommandContext): ModelValues {
  let done = 0;
  let told = host.nowMs();
  return {
    ...values,
    read(id) {
      done += 1;
      const now = host.nowMs();
      if (terminal.isInteractive && now - told > 100) {
        told = now;
        terminal.redraw(`writing ${done} of ${count} tensors`);
      }
      return values.read(id);
    },
  };
}

interface Written {
  readonly dtype: StoredDType;
  readonly bytes: number;
  readonly seconds: number;
}

function tell(
  { event, target, surgery }: SurgeryOutput,
  written: Written,
  { host, terminal }: CommandContext,
): void {
  const { tensors, dropped, layers, isExact, notes, parameters: counts } = surgery.report;
  const { config, parts } = surgery.values;
  const {
    num_experts: experts,
    num_experts_per_tok: topK,
    num_hidden_layers: depth,
    model_type: type,
  } = config;
  const parameters = { ...counts, active: countActiveParameters(config, parts) };
  const fates: { [fate: string]: number } = {};
  for (const { fate } of tensors) fates[fate] = (fates[fate] ?? 0) + 1;
  for (const tensor of tensors) terminal.json({ event: 'tensor', ...tensor });
  for (const id of dropped) terminal.json({ event: 'dropped', id });
  const model = { folder: target, type, experts, topK, layers, parameters };
  terminal.json({ event, ...model, isExact, notes, tensors: fates, dropped: dropped.length, ...written });
  if (terminal.isInteractive) terminal.redraw('');
  const { before, after, active } = parameters;
  const counted = Object.entries(fates).map(([fate, count]) => `${count} ${fate}`);
  const { bytes, dtype, seconds } = written;
  const place = relative(host.workingFolder, target) || '.';
  const rows = [
    ['layers', `${layers.length} of ${depth} changed`],
    ['experts', experts === 0 ? 'none: dense' : `${experts} in a sparse layer, ${topK} per token`],
    ['parameters', `${formatCount(before)} -> ${formatCount(after)}, ${formatCount(active)} active`],
    ['tensors', [...counted, `${dropped.length} dropped`].join(', ')],
    ['computes', isExact ? 'the same as before' : `not the same: ${notes.join('; ')}`],
    ['written', `${place}: ${formatCount(bytes)} bytes, ${dtype}, in ${formatDuration(seconds)}`],
  ];
  for (const [name = '', value = ''] of rows) terminal.line(`${name.padEnd(10)}  ${value}`);
}

/** Tokenizer and chat template. */
export async function readCompanions(folder: string): Promise<{ readonly [name: string]: Uint8Array }> {
  const files: { [name: string]: Uint8Array } = {};
  for (const name of companions) {
    const content = await readFile(join(folder, name)).catch(() => undefined);
    if (content !== undefined) files[name] = content;
  }
  return files;
}

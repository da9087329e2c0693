/** @file `moebius eval`: loss, perplexity and bits per byte of models on text they were not trained on. */
import {
  computeBaselines,
  evaluateDocuments,
  packDocuments,
  standardErrorOfDifference,
} from '@moebius/train';
import type { CapacityScope } from '@moebius/routing';
import type { Baselines, DocumentsResult } from '@moebius/train';

import type { EngineFlags } from '../engine-flags.ts';
import { formatComparison, formatDocuments, formatMeasurement } from '../evaluation-tables.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { findMeasuredText } from '../measured-text.ts';
import type { MeasuredText } from '../measured-text.ts';
import type { ModelFlags } from '../model-flags.ts';
import { openModel } from '../model-folder.ts';
import { startEngine } from '../start-engine.ts';
import { formatCount } from '../terminal/format.ts';

/** Flags. */
export interface EvalFlags extends EngineFlags, ModelFlags {
  readonly models: readonly string[];
  readonly data?: string;
  readonly field?: string;
  readonly byDocument?: boolean;
  readonly maxTokens?: number;
  readonly sequence?: number;
  readonly stride?: number;
  readonly batch: number;
  readonly seed: number;
  readonly baselines?: boolean;
  readonly capacity?: readonly number[];
  readonly drop?: readonly string[];
  readonly method?: readonly string[];
  readonly devices?: number;
  readonly scope?: CapacityScope;
  readonly link?: number;
}

/** One model on the text. */
export interface Measurement extends DocumentsResult {
  /** As it was named on the command line. */
  readonly model: string;
  /** Tokens of a window. */
  readonly length: number;
  /** Tokens from one window to the next. */
  readonly stride: number;
  readonly seconds: number;
  readonly baselines: Baselines | undefined;
}

/** Measures models on held-out text, one after the other. */
export async function evaluateModels(flags: EvalFlags, context: CommandContext): Promise<number> {
  if (isCapped(flags)) return (await import('./eval-capacity.ts')).evaluateUnderCapacity(flags, context);
  const { host, terminal } = context;
  const text = await findMeasuredText(flags.models[0] ?? '', flags, host);
  const engine = await startEngine(flags, context);
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => terminal.warn('stopping …') });
  const done: Measurement[] = [];
  try {
    for (const model of flags.models) {
      const measured = await measure(model, { flags, text, context, signal: interrupt.signal });
      done.push(measured);
      const [first = measured] = done;
      tell(measured, {
        text,
        flags,
        engine: engine.name,
        difference: differenceOf(measured, first),
        context,
      });
    }
  } finally {
    interrupt[Symbol.dispose]();
  }
  if (done.length > 1) {
    const rows = done.map((result) => ({ result, difference: differenceOf(result, done[0] ?? result) }));
    for (const line of formatComparison(rows)) terminal.line(line);
  }
  return exitCodes.ok;
}

/** Any flag of a capacity asks for one; without a factor only `expert-drop` makes sense, and the grid says so. */
function isCapped({ capacity, drop, method, devices, scope, link }: EvalFlags): boolean {
  return [capacity, drop, method, devices, scope, link].some((flag) => flag !== undefined);
}

interface Measuring {
  readonly flags: EvalFlags;
  readonly text: MeasuredText;
  readonly context: CommandContext;
  readonly signal: AbortSignal;
}

async function measure(path: string, { flags, text, context, signal }: Measuring): Promise<Measurement> {
  const { host, terminal } = context;
  const { model, tokenizer } = await openModel(path, flags, host);
  try {
    const heldOut = packDocuments(text.heldOut, tokenizer);
    const length = Math.min(flags.sequence ?? text.length, model.config.max_position_embeddings);
    const stride = flags.stride ?? length;
    const began = host.nowMs();
    const result = await evaluateDocuments(model, heldOut, {
      length,
      stride,
      sequences: flags.batch,
      seed: flags.seed,
      signal,
      onProgress: (share) => terminal.redraw(`${path}: ${Math.floor(100 * share)} %`),
      ...(flags.maxTokens === undefined ? {} : { maximumTokens: flags.maxTokens }),
    });
    terminal.redraw('');
    const seconds = (host.nowMs() - began) / 1000;
    const wanted = flags.baselines === true && text.training !== undefined;
    const baselines = wanted
      ? computeBaselines({ training: packDocuments(text.training ?? [], tokenizer), heldOut, tokenizer })
      : undefined;
    return { ...result, model: path, length, stride, seconds, baselines };
  } finally {
    model.dispose();
  }
}

/** A model's bits per byte less those of the first model; the error is that of the pairs of documents. */
export interface Difference {
  readonly bitsPerByte: number;
  readonly error: number | null;
}

/** Undefined for the first model itself, and where tokenizers cut the measured part of the text differently. */
function differenceOf(result: Measurement, first: Measurement): Difference | undefined {
  if (result === first || result.byDocument.length !== first.byDocument.length) return undefined;
  return {
    bitsPerByte: result.bitsPerByte - first.bitsPerByte,
    error: standardErrorOfDifference(result.byDocument, first.byDocument),
  };
}

interface Telling {
  readonly text: MeasuredText;
  readonly flags: EvalFlags;
  readonly engine: string;
  readonly difference: Difference | undefined;
  readonly context: CommandContext;
}

function tell(measured: Measurement, { text, flags, engine, difference, context }: Telling): void {
  const { terminal } = context;
  const { byDocument, ...whole } = measured;
  terminal.json({ event: 'evaluate', ...whole, difference, engine });
  const named = byDocument.map((document) => ({
    name: text.heldOut[document.document]?.name ?? `#${document.document}`,
    ...document,
  }));
  if (flags.byDocument === true) {
    for (const { document: index, ...entry } of named) {
      terminal.json({ event: 'document', model: measured.model, index, ...entry });
    }
  }
  if (flags.models.length === 1) for (const line of formatMeasurement(measured)) terminal.line(line);
  if (flags.byDocument === true) {
    if (flags.models.length > 1) terminal.line(terminal.strong(measured.model));
    for (const line of formatDocuments(named)) terminal.line(line);
    terminal.line();
  }
  const { evaluatedTokens, documents, seconds } = measured;
  terminal.note(
    `${formatCount(evaluatedTokens)} tokens, ${documents} documents, ${formatCount(Math.round(evaluatedTokens / seconds))} tok/s`,
  );
}

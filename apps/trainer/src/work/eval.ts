/** @file `moebius eval`: loss, perplexity and bits per byte of a model on text it was not trained on. */
import { dirname, resolve } from 'node:path';

import { computeBaselines, evaluate, packDocuments, readTextSource, splitDocuments } from '@moebius/train';
import type { TextDocument } from '@moebius/train';

import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext, Host } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { findModelFolder, openModel } from '../model-folder.ts';
import { readRunFile } from '../run-file.ts';
import { cacheFolderOf, startEngine } from '../start-engine.ts';
import { formatCount } from '../terminal/format.ts';
import { formatTable } from '../terminal/table.ts';
import { textSourceOf } from '../text-flags.ts';

/** Flags. */
export interface EvalFlags extends EngineFlags {
  readonly data?: string;
  readonly field?: string;
  readonly tokenizer?: string;
  readonly maxTokens?: number;
  readonly sequence?: number;
  readonly batch: number;
  readonly baselines?: boolean;
}

/** Measures a model on held-out text. */
export async function evaluateModel(
  flags: EvalFlags & { readonly path: string },
  { host, terminal }: CommandContext,
): Promise<number> {
  const text = await findText(flags, host);
  const engine = await startEngine(flags, { host, terminal });
  const opened = await openModel(flags.path, {
    workingFolder: host.workingFolder,
    tokenizerPath: flags.tokenizer,
  });
  const { model, tokenizer } = opened;
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => terminal.warn('stopping …') });
  try {
    const heldOut = packDocuments(text.heldOut, tokenizer);
    const began = host.nowMs();
    const result = await evaluate(model, heldOut, {
      length: Math.min(flags.sequence ?? text.length, model.config.max_position_embeddings),
      sequences: flags.batch,
      signal: interrupt.signal,
      ...(flags.maxTokens === undefined ? {} : { maximumTokens: flags.maxTokens }),
    });
    const seconds = (host.nowMs() - began) / 1000;
    const wanted = flags.baselines === true && text.training !== undefined;
    const baselines = wanted
      ? computeBaselines({ training: packDocuments(text.training ?? [], tokenizer), heldOut, tokenizer })
      : undefined;
    terminal.json({ event: 'evaluate', ...result, baselines, seconds, engine: engine.name });
    const rows = [
      ['bits per byte', result.bitsPerByte.toFixed(4)],
      ['loss (nats per token)', result.loss.toFixed(4)],
      ['perplexity', result.perplexity.toFixed(2)],
      ...Object.entries(baselines ?? {}).map(([name, bits]) => [
        `${baselineNames[name] ?? name} (bits per byte)`,
        bits.toFixed(4),
      ]),
    ];
    for (const line of formatTable(rows, { indent: 0 })) terminal.line(line);
    terminal.note(
      `${formatCount(result.evaluatedTokens)} tokens, ${result.documents} documents, ${formatCount(Math.round(result.evaluatedTokens / seconds))} tok/s`,
    );
    return exitCodes.ok;
  } finally {
    interrupt[Symbol.dispose]();
    model.dispose();
  }
}

const baselineNames: { readonly [name: string]: string } = {
  byteBigram: 'byte bigram',
  gzip: 'gzip -9',
  tokenUnigram: 'token unigram',
  tokenBigram: 'Kneser-Ney token bigram',
};

interface MeasuredText {
  readonly heldOut: readonly TextDocument[];
  /** What the run was trained on, when the folder knows it. */
  readonly training: readonly TextDocument[] | undefined;
  /** Tokens of a window. */
  readonly length: number;
}

/** Text of the user's own, or what the run of this folder held out, or the default text's held-out part. */
async function findText(flags: EvalFlags & { readonly path: string }, host: Host): Promise<MeasuredText> {
  const { workingFolder } = host;
  const options = { cacheFolder: cacheFolderOf(host.env) };
  const folder = await findModelFolder(flags.path, workingFolder);
  const run = (await readRunFile(folder)) ?? (await readRunFile(dirname(folder)));
  const length = run?.batch.length ?? 256;
  if (flags.data !== undefined) {
    const source = textSourceOf(flags.data, { field: flags.field, workingFolder: resolve(workingFolder) });
    return { heldOut: await readTextSource(source, options), training: undefined, length };
  }
  const data = run?.data ?? { training: { corpus: 'sotu' as const }, heldOutFraction: 0.1, splitSeed: 0 };
  const documents = await readTextSource(data.training, options);
  if ('heldOut' in data && data.heldOut !== undefined) {
    return { heldOut: await readTextSource(data.heldOut, options), training: documents, length };
  }
  const split = splitDocuments(documents, { heldOutFraction: data.heldOutFraction, seed: data.splitSeed });
  return { ...split, length };
}

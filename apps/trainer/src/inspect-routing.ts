/** @file `moebius inspect --text`: what the routers of a trained model do on a text. */
import { MoebiusError } from '@moebius/core';
import { measureRouting, packDocuments } from '@moebius/train';
import type { RoutingReport } from '@moebius/train';

import type { EngineFlags } from './engine-flags.ts';
import type { CommandContext } from './host.ts';
import { listenForInterrupt } from './interrupt.ts';
import { readNamedText } from './measured-text.ts';
import type { ModelFlags } from './model-flags.ts';
import { openModel } from './model-folder.ts';
import { startEngine } from './start-engine.ts';
import { shareStrip } from './terminal/balance-strip.ts';
import { formatCount } from './terminal/format.ts';
import { formatTable } from './terminal/table.ts';

/** Windows at once. */
const windows = 8;
const defaultLength = 256;

/** Flags that concern the text. */
export interface RoutingFlags extends EngineFlags, ModelFlags {
  readonly path: string | undefined;
  readonly text: string;
  readonly field?: string;
  readonly maxTokens: number;
  readonly sequence?: number;
}

/** Runs a text through a model and shows its gates. */
export async function inspectRouting(flags: RoutingFlags, context: CommandContext): Promise<void> {
  const { terminal } = context;
  if (flags.path === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message:
        '--text: must have a trained model to run through, got none (moebius inspect runs/demo --text …)',
    });
  }
  const { report, length } = await measure({ ...flags, path: flags.path }, context);
  terminal.json({ event: 'routing', text: flags.text, length, ...report });
  terminal.line();
  for (const line of formatRouting(report)) terminal.line(line);
}

/** The pairs that each expert of each sparse layer gets on a text. */
export async function measureLoad(
  flags: RoutingFlags & { readonly path: string },
  context: CommandContext,
): Promise<{ readonly [layer: number]: readonly number[] }> {
  const { report } = await measure(flags, context);
  return Object.fromEntries(report.layers.map(({ layer, load }) => [layer, load]));
}

async function measure(
  flags: RoutingFlags & { readonly path: string },
  context: CommandContext,
): Promise<{ readonly report: RoutingReport; readonly length: number }> {
  const { host, terminal } = context;
  const documents = await readNamedText({ data: flags.text, field: flags.field }, host);
  await startEngine(flags, context);
  const { model, tokenizer } = await openModel(flags.path, flags, host);
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => terminal.warn('stopping …') });
  try {
    const { max_position_embeddings: positions } = model.config;
    const length = Math.min(flags.sequence ?? defaultLength, positions, flags.maxTokens);
    const report = await measureRouting(model, packDocuments(documents, tokenizer), {
      length,
      sequences: windows,
      maximumTokens: flags.maxTokens,
      signal: interrupt.signal,
    });
    return { report, length };
  } finally {
    interrupt[Symbol.dispose]();
    model.dispose();
  }
}

function formatRouting({ tokens, layers }: RoutingReport): string[] {
  if (layers.length === 0) return ['no layer routes: every layer is dense'];
  const rows = layers.map(({ layer, load, imbalance, entropy, idle, topWeight, gateEntropy }) => [
    `layer ${layer}`,
    imbalance.toFixed(2),
    entropy.toFixed(3),
    String(idle),
    topWeight.toFixed(3),
    gateEntropy.toFixed(3),
    shareStrip(load),
  ]);
  const head = ['', 'max/mean', 'evenness', 'idle', 'first', 'undecided', 'experts'];
  return [`routers, ${formatCount(tokens)} tokens`, ...formatTable([head, ...rows])];
}

/** @file `moebius trace`: which token of a text went to which expert, as a file and as pictures. */
import { mkdir } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';
import type { CapacityScope, DispatchPlan } from '@moebius/routing';
import { drawLoadSvg, drawLoadText, traceToLines } from '@moebius/routing/metrics';
import type { RouteTrace } from '@moebius/routing/metrics';
import { capacityGrid, packDocuments, traceRoutes } from '@moebius/train';
import type { CapacitySetting } from '@moebius/train';

import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { readNamedText } from '../measured-text.ts';
import type { ModelFlags } from '../model-flags.ts';
import { openModel } from '../model-folder.ts';
import { startEngine } from '../start-engine.ts';
import { writeTextFile } from '../write-text-file.ts';

/** Flags. */
export interface TraceFlags extends EngineFlags, ModelFlags {
  readonly model: string;
  readonly text: string;
  readonly field?: string;
  readonly out?: string;
  readonly svg?: string;
  readonly maxTokens: number;
  readonly sequence: number;
  readonly capacity?: number;
  readonly drop?: string;
  readonly method?: string;
  readonly devices?: number;
  readonly scope?: CapacityScope;
}

/** Records one pass over the beginning of a text. */
export async function trace(flags: TraceFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  assertOut(flags);
  const documents = await readNamedText({ data: flags.text, field: flags.field }, host);
  await startEngine(flags, context);
  const { model, tokenizer } = await openModel(flags.model, flags, host);
  try {
    const setting = settingOf(model, flags);
    const recorded = await traceRoutes(model, packDocuments(documents, tokenizer), {
      length: Math.min(flags.sequence, model.config.max_position_embeddings),
      maximumTokens: flags.maxTokens,
      capacity: setting?.capacity,
      about: { model: flags.model, text: flags.text, capacity: setting?.name ?? 'none' },
    });
    await write(recorded, flags, context);
    const layers = recorded.passes.flatMap((pass) => pass.layers);
    terminal.json({
      event: 'trace',
      model: flags.model,
      text: flags.text,
      capacity: setting?.name ?? null,
      tokens: layers[0]?.plan.tokens ?? 0,
      layers: layers.map(({ layer, plan }) => ({ layer, ...countsOf(plan) })),
    });
    for (const { layer, plan } of layers) {
      terminal.line(terminal.strong(`layer ${layer}`) + summaryOf(plan));
      for (const line of drawLoadText(plan).trimEnd().split('\n')) terminal.line(line);
    }
    return exitCodes.ok;
  } finally {
    model.dispose();
  }
}

async function write(
  recorded: RouteTrace,
  flags: TraceFlags,
  { host, terminal }: CommandContext,
): Promise<void> {
  const { workingFolder } = host;
  const show = (path: string): string => relative(workingFolder, path);
  if (flags.out !== undefined) {
    const file = resolve(workingFolder, flags.out);
    await writeTextFile(file, `${[...traceToLines(recorded)].join('\n')}\n`, '--out');
    terminal.note(`trace: ${show(file)}`);
  }
  if (flags.svg === undefined) return;
  const folder = resolve(workingFolder, flags.svg);
  await mkdir(folder, { recursive: true });
  for (const { layer, plan } of recorded.passes.flatMap((pass) => pass.layers)) {
    const picture = drawLoadSvg(plan, { title: `${flags.model}, layer ${layer}` });
    await writeTextFile(join(folder, `layer-${layer}.svg`), picture, '--svg');
  }
  terminal.note(`pictures: ${show(folder)}`);
}

function settingOf(model: DecoderModel, flags: TraceFlags): CapacitySetting | undefined {
  const { capacity, drop, method, devices, scope } = flags;
  const { num_experts: experts, num_experts_per_tok: topK } = model.config;
  const asked = [capacity, drop, method, devices, scope].some((flag) => flag !== undefined);
  if (experts === 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${flags.model}: must have a sparse layer to trace, got a dense model (there are no experts)`,
    });
  }
  if (!asked) return undefined;
  return capacityGrid({
    gammas: capacity === undefined ? [] : [capacity],
    experts,
    topK,
    ...(drop === undefined ? {} : { keys: [drop] }),
    ...(method === undefined ? {} : { methods: [method] }),
    ...(devices === undefined ? {} : { devices }),
    ...(scope === undefined ? {} : { scope }),
  })[0];
}

function assertOut({ out }: TraceFlags): void {
  if (out === undefined || out.endsWith('.jsonl')) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `--out: must end with .jsonl, got "${out}" (a trace is JSON Lines)`,
    details: { out },
  });
}

function countsOf(plan: DispatchPlan): object {
  const { load, capacity } = plan.stats;
  return {
    load: [...load],
    before: [...(capacity?.preLoad ?? load)],
    dropped: capacity?.dropped ?? 0,
    added: capacity?.expanded ?? 0,
    orphans: capacity?.orphans ?? 0,
  };
}

function summaryOf({ stats, experts }: DispatchPlan): string {
  const { capacity } = stats;
  if (capacity === undefined) return `  busiest expert ${stats.imbalance.toFixed(2)} x mean`;
  const pairs = capacity.preLoad.reduce((sum, load) => sum + load, 0);
  const peak = (Math.max(...capacity.preLoad) * experts) / pairs;
  const after = (stats.maxLoad * experts) / pairs;
  return `  busiest expert ${peak.toFixed(2)} x mean, now ${after.toFixed(2)}; ${capacity.dropped} of ${pairs} pairs dropped, ${capacity.expanded} added, ${capacity.orphans} tokens without an expert`;
}

/** @file `moebius eval --capacity`: held-out loss of a model under capacity settings, what they drop, and the layer time to expect. */
import { MoebiusError } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';
import { createLatencyModel, measureExpertTimes } from '@moebius/routing/latency';
import type { LatencyModel } from '@moebius/routing/latency';
import { capacityGrid, evaluateCapacity, packDocuments } from '@moebius/train';
import type { CapacityMeasurement, CapacitySetting } from '@moebius/train';

import { formatCapacityTable } from '../capacity-table.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { findMeasuredText } from '../measured-text.ts';
import { openModel } from '../model-folder.ts';
import { startEngine } from '../start-engine.ts';
import { formatCount } from '../terminal/format.ts';
import type { EvalFlags } from './eval.ts';

/** Measures one model without a capacity, then under each setting. */
export async function evaluateUnderCapacity(flags: EvalFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  const path = onlyModel(flags);
  const text = await findMeasuredText(path, flags, host);
  await startEngine(flags, context);
  const { model, tokenizer } = await openModel(path, flags, host);
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => terminal.warn('stopping …') });
  try {
    const devices = flags.devices ?? usualDevices(model);
    const settings = settingsOf(model, flags, devices);
    const length = Math.min(flags.sequence ?? text.length, model.config.max_position_embeddings);
    const latency = predictTimes(model, { devices, tokens: length * flags.batch, flags, context });
    const done: CapacityMeasurement[] = [];
    await evaluateCapacity(model, packDocuments(text.heldOut, tokenizer), {
      settings,
      latency,
      length,
      stride: flags.stride,
      sequences: flags.batch,
      seed: flags.seed,
      signal: interrupt.signal,
      onProgress: (share) => terminal.redraw(`${path}: ${Math.floor(100 * share)} %`),
      onMeasured: (measurement) => {
        done.push(measurement);
        const { byDocument, ...whole } = measurement;
        terminal.json({ event: 'capacity', model: path, devices, ...whole, byDocument: byDocument.length });
      },
      ...(flags.maxTokens === undefined ? {} : { maximumTokens: flags.maxTokens }),
    });
    terminal.redraw('');
    for (const line of formatCapacityTable(done)) terminal.line(line);
    const [first] = done;
    terminal.note(
      `${formatCount(first?.evaluatedTokens ?? 0)} tokens, ${first?.documents} documents, batches of ${formatCount(length * flags.batch)} tokens; predicted for ${devices} devices ${flags.link === undefined ? 'without transfers (name their speed: --link)' : `with a link of ${flags.link} GB/s`}`,
    );
    return exitCodes.ok;
  } finally {
    interrupt[Symbol.dispose]();
    model.dispose();
  }
}

function onlyModel({ models, byDocument, baselines }: EvalFlags): string {
  const [path = '', ...others] = models;
  const extra = [
    ...(others.length > 0 ? [`${models.length} models`] : []),
    ...(byDocument === true ? ['--by-document'] : []),
    ...(baselines === true ? ['--baselines'] : []),
  ];
  if (extra.length === 0) return path;
  throw new MoebiusError({
    code: 'configuration',
    message: `--capacity: must be alone with one model, got ${extra.join(' and ')} (measure them in a command of their own)`,
    details: { extra },
  });
}

function settingsOf(model: DecoderModel, flags: EvalFlags, devices: number): CapacitySetting[] {
  const { num_experts: experts, num_experts_per_tok: topK } = model.config;
  if (experts === 0) return [];
  return capacityGrid({
    gammas: flags.capacity ?? [],
    devices,
    experts,
    topK,
    ...(flags.drop === undefined ? {} : { keys: flags.drop }),
    ...(flags.method === undefined ? {} : { methods: flags.method }),
    ...(flags.scope === undefined ? {} : { scope: flags.scope }),
  });
}

/** As many as share the experts evenly, at most 8. */
function usualDevices({ config: { num_experts: experts } }: DecoderModel): number {
  return [8, 7, 6, 5, 4, 3, 2].find((count) => experts % count === 0) ?? 1;
}

interface Prediction {
  readonly devices: number;
  readonly tokens: number;
  readonly flags: EvalFlags;
  readonly context: CommandContext;
}

/** From the time that one expert takes on this machine. A row is float32 `[D]`. */
function predictTimes(
  { config, parts }: DecoderModel,
  { devices, tokens, flags, context }: Prediction,
): LatencyModel | undefined {
  const kind = parts.experts.find((kinds) => kinds.length > 0)?.[0];
  if (kind === undefined) return undefined;
  const { hidden_size: modelWidth, moe_intermediate_size: hiddenWidth, num_experts: experts } = config;
  const rows = [1, 4, 16, 64, 256, 1024, 4096, 16_384].filter((count) => count < tokens);
  const times = measureExpertTimes({
    kind,
    size: { modelWidth, hiddenWidth },
    clock: context.host,
    rows: [...rows, tokens],
  });
  const transferSecondsPerRow = flags.link === undefined ? 0 : (4 * modelWidth) / (flags.link * 1e9);
  return createLatencyModel({ experts, placement: { devices, hostOf: null }, times, transferSecondsPerRow });
}

/** @file `moebius bench`: how fast this machine trains and decodes a recipe's model. A look, not a measurement for papers. */
import { medianOf } from '@moebius/core';
import { createTrainer } from '@moebius/train';
import type { StartEvent, StepEvent, Trainer } from '@moebius/train';

import { continueText } from '../continue-text.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { planTraining } from '../plan-training.ts';
import type { RunFlags } from '../run-config.ts';
import { cacheFolderOf, findRate } from '../start-engine.ts';
import { formatBytes, formatCount, formatFlops } from '../terminal/format.ts';
import { formatTable } from '../terminal/table.ts';

/** Steps and texts before the clock counts. */
const warmUpSteps = 2;

/** Flags. */
export interface BenchFlags extends Omit<RunFlags, 'steps' | 'minutes' | 'out'> {
  readonly repeat: number;
  readonly maxTokens: number;
}

/** Times steps and decoding. */
export async function bench(flags: BenchFlags, context: CommandContext): Promise<number> {
  const { host } = context;
  const plan = await planTraining(
    { ...flags, steps: warmUpSteps + flags.repeat, sample: false, cached: false },
    context,
  );
  const evaluation = { ...plan.config.evaluation, everySteps: null };
  const matmulFlopsPerSecond = await findRate(context, { anew: true });
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => {} });
  const trainer = createTrainer(
    { ...plan.config, evaluation, output: null, tensorboard: false },
    { clock: { nowMs: () => host.nowMs() }, cacheFolder: cacheFolderOf(host.env), signal: interrupt.signal },
  );
  try {
    const timed = await timeSteps(trainer, warmUpSteps + flags.repeat);
    if (timed === undefined || interrupt.signal.aborted) return exitCodes.interrupted;
    const decode = await timeDecoding(trainer, {
      maxTokens: flags.maxTokens,
      host,
      signal: interrupt.signal,
    });
    show({ ...timed, ...decode, matmulFlopsPerSecond, residentBytes: host.residentBytes() }, context);
    return exitCodes.ok;
  } finally {
    interrupt[Symbol.dispose]();
    trainer.dispose();
  }
}

interface StepTimes {
  readonly start: StartEvent;
  readonly stepMs: number;
  readonly tensors: number;
  readonly tensorBytes: number;
}

/** Runs so many steps and no evaluation; the first ones do not count. */
async function timeSteps(trainer: Trainer, steps: number): Promise<StepTimes | undefined> {
  const counted: StepEvent[] = [];
  let begun: StartEvent | undefined;
  for await (const event of trainer.run()) {
    if (event.kind === 'start') begun = event;
    if (event.kind === 'step' && event.step > warmUpSteps) counted.push(event);
    if (event.kind === 'step' && event.step >= steps) break;
  }
  const last = counted.at(-1);
  if (begun === undefined || last === undefined) return undefined;
  const { tensors, bytes } = last.memory;
  return { start: begun, stepMs: medianOf(counted.map(({ stepMs }) => stepMs)), tensors, tensorBytes: bytes };
}

interface Decoding {
  readonly maxTokens: number;
  readonly host: CommandContext['host'];
  readonly signal: AbortSignal;
}

/** Greedy text, one sequence, after a short one that does not count. */
async function timeDecoding(
  trainer: Trainer,
  { maxTokens, host, signal }: Decoding,
): Promise<{ decodedPerSecond: number }> {
  const opened = { model: trainer.model, tokenizer: trainer.dataset.tokenizer };
  const most = opened.model.config.max_position_embeddings - 1;
  const request = { prompt: '', temperature: 0, topK: 0, topP: 1, seed: 0, signal };
  await continueText(opened, { ...request, maxNewTokens: warmUpSteps });
  const began = host.nowMs();
  const { tokens } = await continueText(opened, { ...request, maxNewTokens: Math.min(most, maxTokens) });
  return { decodedPerSecond: (1000 * tokens) / (host.nowMs() - began) };
}

interface Timed extends StepTimes {
  readonly decodedPerSecond: number;
  readonly matmulFlopsPerSecond: number | undefined;
  readonly residentBytes: number;
}

function show(timed: Timed, { terminal }: CommandContext): void {
  const { start, stepMs, decodedPerSecond, tensors, tensorBytes, residentBytes } = timed;
  const { parameters, activeParameters, tokensPerStep, flopsPerStep } = start;
  const tokensPerSecond = (1000 * tokensPerStep) / stepMs;
  const flopsPerSecond = (1000 * flopsPerStep) / stepMs;
  const { matmulFlopsPerSecond = NaN } = timed;
  const mfu = flopsPerSecond / matmulFlopsPerSecond;
  terminal.json({
    event: 'bench',
    parameters,
    activeParameters,
    tokensPerStep,
    flopsPerStep,
    stepMs,
    tokensPerSecond,
    flopsPerSecond,
    matmulFlopsPerSecond,
    mfu,
    decodedPerSecond,
    tensors,
    tensorBytes,
    residentBytes,
  });
  const rows = [
    ['parameters (active)', `${formatCount(parameters)} (${formatCount(activeParameters)})`],
    ['training step', `${stepMs.toFixed(1)} ms for ${tokensPerStep} tokens`],
    ['training', `${formatCount(tokensPerSecond)} tok/s, ${formatFlops(flopsPerSecond)}/s`],
    ['matrix products alone (MFU)', `${formatFlops(matmulFlopsPerSecond)}/s (${(100 * mfu).toFixed(0)} %)`],
    ['greedy decoding, one sequence', `${decodedPerSecond.toFixed(1)} tok/s`],
    ['tensors after a step', `${tensors}, ${formatBytes(tensorBytes)}`],
    ['memory of the process', formatBytes(residentBytes)],
  ];
  for (const line of formatTable(rows)) terminal.line(line);
}

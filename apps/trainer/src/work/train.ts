/** @file `moebius train`: a run from a recipe or a file, shown as it goes, saved, resumable. */
import { relative } from 'node:path';

import { isMoebiusError } from '@moebius/core';
import { createTrainer } from '@moebius/train';
import type { EndEvent, Trainer, TrainerOptions } from '@moebius/train';

import { continueText } from '../continue-text.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt, stopSignals } from '../interrupt.ts';
import type { Interrupt } from '../interrupt.ts';
import { planTraining } from '../plan-training.ts';
import type { TrainFlags, TrainingPlan } from '../plan-training.ts';
import { writeRunFile } from '../run-file.ts';
import { createRunReport } from '../run-report.ts';
import { cacheFolderOf, findRate } from '../start-engine.ts';

/** Tokens of the sample at the end. */
const sampleTokens = 96;
/** Characters of our command line that another run is told when we hold its folder. */
const longestCommand = 200;
/** How long the last save waits for room on a full disk, unless MOEBIUS_DISK_PATIENCE says so. */
const diskPatienceSeconds = 600;

/** Plans, runs and reports a run. */
export async function train(flags: TrainFlags, context: CommandContext): Promise<number> {
  const plan = await planTraining(flags, context);
  if (plan.finished !== undefined) return showFinished(plan.finished, context);
  const { host, terminal } = context;
  const report = createRunReport(terminal, {
    nowMs: () => host.nowMs(),
    name: plan.config.name,
    everySteps: flags.logSteps,
  });
  // Nobody listens before training begins: until then there is nothing to save, and a signal ends the process at once.
  const stopping = new AbortController();
  let interrupt: Interrupt | undefined;
  const onStart = (): void => {
    interrupt = listenForInterrupt(host.signals, {
      names: stopSignals,
      onFirst: () => report.note('stopping after this step; Ctrl-C again stops at once, without saving'),
    });
    interrupt.signal.addEventListener('abort', () => stopping.abort());
  };
  const trainer = createTrainer(plan.config, {
    ...trainerOptions(plan, context, stopping.signal),
    matmulFlopsPerSecond: await findRate(context),
  });
  try {
    const reason = await runTrainer(trainer, { plan, report, onStart });
    const status = interrupt?.status ?? exitCodes.interrupted;
    if (reason === 'aborted') return tellHowToResume(plan, context, status);
    if (flags.sample) await showSample(trainer, { plan, context, signal: stopping.signal });
    const output = (await plan.keep?.()) ?? plan.config.output;
    terminal.line();
    for (const line of nextCommands(output, host.workingFolder)) terminal.line(line);
    return exitCodes.ok;
  } finally {
    report.close();
    interrupt?.[Symbol.dispose]();
    trainer.dispose();
  }
}

function trainerOptions(plan: TrainingPlan, context: CommandContext, signal: AbortSignal): TrainerOptions {
  const { host, terminal } = context;
  return {
    clock: { nowMs: () => host.nowMs() },
    cacheFolder: cacheFolderOf(host.env),
    signal,
    existing: plan.existing,
    wallTimeMs: () => host.wallTimeMs(),
    command: host.commandLine.slice(0, longestCommand),
    diskPatienceMs: 1000 * Number(host.env['MOEBIUS_DISK_PATIENCE'] ?? diskPatienceSeconds),
    onMessage: (line) => terminal.note(line),
    residentBytes: () => host.residentBytes(),
  };
}

interface Running {
  readonly plan: TrainingPlan;
  readonly report: ReturnType<typeof createRunReport>;
  /** Called when training begins, and what there is should be saved when it is stopped. */
  onStart(): void;
}

/** Shows every event; writes `run.json` when training begins. */
async function runTrainer(trainer: Trainer, { plan, report, onStart }: Running): Promise<EndEvent['reason']> {
  let reason: EndEvent['reason'] = 'aborted';
  for await (const event of trainer.run()) {
    // The engine was started, and named, before the configuration was made.
    if (event.kind === 'prepare' && event.stage === 'engine') continue;
    if (event.kind === 'start') {
      onStart();
      if (plan.config.output !== null) await writeRunFile(plan.config, plan.config.output);
    }
    report.show(event);
    if (event.kind === 'end') reason = event.reason;
  }
  return reason;
}

interface Sampling {
  readonly plan: TrainingPlan;
  readonly context: CommandContext;
  readonly signal: AbortSignal;
}

/** A text by the trained model; Ctrl-C ends the text, not the success of the run. */
async function showSample(trainer: Trainer, { plan, context, signal }: Sampling): Promise<void> {
  const { terminal } = context;
  const { prompt, config } = plan;
  const model = trainer.model;
  const { tokenizer } = trainer.dataset;
  const maxNewTokens = Math.min(sampleTokens, model.config.max_position_embeddings - 1);
  terminal.line();
  terminal.line(terminal.strong('A sample'));
  terminal.text(prompt);
  try {
    const made = await continueText(
      { model, tokenizer },
      {
        prompt,
        maxNewTokens,
        temperature: 0.8,
        topK: 0,
        topP: 0.95,
        seed: config.seed,
        signal,
        onText: (piece) => terminal.text(piece),
      },
    );
    terminal.json({ event: 'sample', prompt, ...made });
  } catch (error) {
    if (!isMoebiusError(error, 'aborted')) throw error;
  }
  terminal.line();
}

function showFinished(folder: string, { terminal, host }: CommandContext): number {
  terminal.json({ event: 'cached', folder });
  terminal.line(`this configuration was trained before: ${folder}`);
  terminal.line(`  moebius generate ${relative(host.workingFolder, folder) || '.'} --prompt "…"`);
  return exitCodes.ok;
}

function tellHowToResume(
  { config, keep }: TrainingPlan,
  { terminal, host }: CommandContext,
  status: number,
): number {
  const { output } = config;
  terminal.json({ event: 'interrupted', resume: output });
  if (output === null) {
    terminal.warn(
      'stopped; nothing was saved, because the run has no output folder (give it one with --out)',
    );
  } else if (keep !== undefined) terminal.warn('stopped; to go on, give the same command again');
  else terminal.warn(`stopped; to go on: moebius train --resume ${relative(host.workingFolder, output)}`);
  return status;
}

function nextCommands(output: string | null, workingFolder: string): string[] {
  if (output === null) return [];
  const folder = relative(workingFolder, output);
  return [
    `The model is in ${folder}/model. Next:`,
    `  moebius generate ${folder} --prompt "…"`,
    `  moebius eval ${folder}`,
  ];
}

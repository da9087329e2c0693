/**
 * @file A run's events as people read them: preparation, progress, evaluations, and at the end the table of baselines.
 */
import type {
  EndEvent,
  EvaluateEvent,
  PrepareEvent,
  SaveEvent,
  SkipEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
} from '@moebius/train';

import { balanceStrip, loadRows } from './terminal/balance-strip.ts';
import { formatBytes, formatCount, formatDuration, formatFlops } from './terminal/format.ts';
import { createProgressLine } from './terminal/progress-line.ts';
import type { ProgressLine, ProgressOptions } from './terminal/progress-line.ts';
import { formatTable } from './terminal/table.ts';
import type { Terminal } from './terminal/terminal.ts';

/** Shows events. */
export interface RunReport {
  /** Shows one event; with `--json`, prints it. */
  show(event: TrainEvent): void;
  /** A line that stays above the progress. */
  note(text: string): void;
  /** Ends the progress line; call it also when the run threw. */
  close(): void;
}

/** Weight of the newest step in the shown loss and pace: a single batch is noisy. */
const newestWeight = 0.1;

/**
 * Makes a report of one run.
 *
 * @param terminal - where to
 * @param options - `name` of the run, the time, and how often plain lines appear
 */
export function createRunReport(
  terminal: Terminal,
  options: ProgressOptions & { readonly name: string },
): RunReport {
  const { name } = options;
  const progress = createProgressLine(terminal, options);
  const state: RunState = {
    name,
    steps: undefined,
    tokensPerStep: 1,
    loss: NaN,
    rate: NaN,
    mfu: NaN,
    newest: undefined,
  };
  return {
    show(event) {
      terminal.json(toJson(event));
      showEvent(event, { terminal, progress, state });
    },
    note: (text) => progress.note(text),
    close: () => progress.end(),
  };
}

interface RunState {
  readonly name: string;
  steps: number | undefined;
  tokensPerStep: number;
  loss: number;
  rate: number;
  mfu: number;
  newest: StepEvent | undefined;
}

interface Showing {
  readonly terminal: Terminal;
  readonly progress: ProgressLine;
  readonly state: RunState;
}

/** The event under the name `event`, as every line of `--json` has it. */
function toJson({ kind, ...fields }: TrainEvent): object {
  return { event: kind, ...fields };
}

function showEvent(event: TrainEvent, showing: Showing): void {
  switch (event.kind) {
    case 'prepare':
      return showing.progress.note(describePreparation(event, showing.terminal));
    case 'start':
      showing.state.steps = event.steps;
      showing.state.tokensPerStep = event.tokensPerStep;
      describeStart(event).forEach((line) => showing.progress.note(line));
      return event.warnings?.forEach((text) => showing.terminal.warn(`warning: ${text}`));
    case 'step':
      return showStep(event, showing);
    case 'skip':
      return showing.progress.note(showing.terminal.faint(describeSkip(event)));
    case 'evaluate':
      return showing.progress.note(describeEvaluation(event));
    case 'save':
      return showing.progress.note(describeSave(event, showing.terminal));
    case 'save-failed':
      return showing.terminal.warn(`warning: ${event.message}; trying again ${event.retry}`);
    case 'end':
      showing.progress.end();
      return describeEnd(event, showing).forEach((line) => showing.terminal.line(line));
  }
}

function describePreparation({ stage, detail, elapsedMs }: PrepareEvent, terminal: Terminal): string {
  return `${stage.padEnd(10)} ${detail} ${terminal.faint(`(${formatDuration(elapsedMs / 1000)})`)}`;
}

function describeStart(event: StartEvent): string[] {
  const { parameters, activeParameters, tokensPerStep, trainingTokens, heldOutTokens } = event;
  const from = event.step === 0 ? '' : `, from step ${event.step}`;
  const length = event.steps === undefined ? 'by time' : `${event.steps} steps`;
  const { matmulFlopsPerSecond } = event;
  const limit =
    matmulFlopsPerSecond === undefined
      ? []
      : [
          `           matrix products run at ${formatFlops(matmulFlopsPerSecond)}/s here: MFU is the share of that`,
        ];
  return [
    `training   ${formatCount(parameters)} parameters, ${formatCount(activeParameters)} active per token; ` +
      `${formatCount(trainingTokens)} tokens to train on, ${formatCount(heldOutTokens)} held out`,
    `           ${length}${from}, ${tokensPerStep} tokens and ${formatFlops(event.flopsPerStep)} per step, ` +
      `about ${formatBytes(event.estimatedBytes)} of tensors`,
    ...limit,
  ];
}

function showStep(event: StepEvent, { progress, state }: Showing): void {
  const blend = (before: number, now: number): number =>
    Number.isNaN(before) ? now : before + newestWeight * (now - before);
  state.loss = blend(state.loss, event.loss);
  state.rate = blend(state.rate, event.tokensPerSecond);
  if (event.mfu !== undefined) state.mfu = blend(state.mfu, event.mfu);
  state.newest = event;
  progress.update({
    name: state.name,
    step: event.step,
    steps: state.steps,
    fraction: event.fraction,
    loss: state.loss,
    tokensPerSecond: state.rate,
    secondsLeft: event.remainingMs / 1000,
    mfu: Number.isNaN(state.mfu) ? undefined : state.mfu,
    balance: stripOf(event, state.tokensPerStep),
    gradientNorm: event.gradientNorm,
    learningRate: event.learningRate,
  });
}

/** One glyph per sparse layer. Pairs per token are the same everywhere, so the first layer tells K. */
function stripOf({ routing }: StepEvent, tokensPerStep: number): string {
  const pairs = (routing[0]?.load ?? []).reduce((sum, load) => sum + load, 0);
  const topK = Math.max(1, Math.round(pairs / tokensPerStep));
  return balanceStrip(
    routing.map(({ load }) => load),
    topK,
  );
}

function describeSkip({ step, inRow, total, reason }: SkipEvent): string {
  const row = inRow === total ? '' : `, ${inRow} in a row`;
  return `step ${step}: left out (${total} so far${row}): ${reason}`;
}

const weightNames: { readonly [name in EvaluateEvent['weights']]: string } = {
  trained: '',
  average: ', averaged weights',
  best: ', best weights',
};

function describeEvaluation(event: EvaluateEvent): string {
  const part = event.isWhole ? '' : ` on ${formatCount(event.evaluatedTokens)} tokens`;
  return (
    `step ${event.step}: held-out loss ${event.loss.toFixed(3)}, perplexity ${event.perplexity.toFixed(1)}, ` +
    `${event.bitsPerByte.toFixed(3)} bits per byte${part}, after ${formatCount(event.seenTokens)} tokens${weightNames[event.weights]}`
  );
}

function describeSave({ what, folder, elapsedMs }: SaveEvent, terminal: Terminal): string {
  return `${what} saved in ${folder} ${terminal.faint(`(${formatDuration(elapsedMs / 1000)})`)}`;
}

const endNames: { readonly [reason in EndEvent['reason']]: string } = {
  finished: 'finished',
  aborted: 'stopped',
  'early-stop': 'stopped early',
};

function describeEnd(event: EndEvent, { terminal, state }: Showing): string[] {
  const best = event.bestStep === undefined ? '' : `, weights of step ${event.bestStep}`;
  const skipped = event.skippedSteps === 0 ? '' : `, ${event.skippedSteps} left out`;
  const head = `${endNames[event.reason]} after ${event.step} steps${skipped}, ${formatCount(event.tokens)} tokens, ${formatDuration(event.elapsedMs / 1000)}${best}`;
  const loads = state.newest?.routing.map(({ load }) => load) ?? [];
  const balance =
    loads.length === 0
      ? []
      : ['', 'Use of the experts in the last step:', ...loadRows(loads).map((row) => `  ${row}`)];
  return ['', terminal.strong(head), ...baselineTable(event, terminal), ...balance];
}

/** The model among the simple methods, best first. */
function baselineTable({ evaluation, baselines }: EndEvent, terminal: Terminal): string[] {
  if (evaluation === undefined || baselines === undefined) return [];
  const rows: [string, number][] = [
    ['this model', evaluation.bitsPerByte],
    ['Kneser-Ney token bigram, all training text', baselines.tokenBigram],
    ['Kneser-Ney token bigram, the tokens this model has seen', baselines.tokenBigramSeen],
    ['token unigram', baselines.tokenUnigram],
    ['gzip -9', baselines.gzip],
    ['byte bigram', baselines.byteBigram],
  ];
  const sorted = rows.toSorted(([, a], [, b]) => a - b);
  const [heading = '', ...lines] = formatTable([
    ['Held-out text', 'bits per byte'],
    ...sorted.map(([name, bits]) => [name, bits.toFixed(3)]),
  ]);
  return [
    '',
    heading,
    ...lines.map((line, index) => (sorted[index]?.[0] === 'this model' ? terminal.strong(line) : line)),
  ];
}

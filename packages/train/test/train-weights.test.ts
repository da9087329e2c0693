import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { loadModel } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { memory, readHostSync } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { averageDecay, createTrainer, defineCallback, evaluate } from '../src/index.ts';
import type { EvaluateEvent, TrainConfigInput, TrainEvent } from '../src/index.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

/** All weights of a model, one after the other. */
function weightsOf({ parameters }: DecoderModel): Float64Array {
  return Float64Array.from(parameters.ids().flatMap((id) => [...readHostSync(parameters.read(id))]));
}

/** Collects the trained weights: before the first step, then after each. */
function recordWeights(into: Float64Array[]): ReturnType<typeof defineCallback> {
  const record = (_: unknown, { model }: { readonly model: DecoderModel }): void => {
    into.push(weightsOf(model));
  };
  return defineCallback({ name: 'record', onStart: record, onStep: record });
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((worst, value, at) => Math.max(worst, Math.abs(value - (b[at] ?? NaN))), 0);
}

function evaluationsOf(events: readonly TrainEvent[]): EvaluateEvent[] {
  return events.filter((event) => event.kind === 'evaluate');
}

/** Stops after a step and goes on in a second session; gives the events of the second. */
async function runInTwo(config: TrainConfigInput, stopAfter: number): Promise<TrainEvent[]> {
  const controller = new AbortController();
  const stop = defineCallback({
    name: 'stop',
    onStep: ({ step }) => (step === stopAfter ? controller.abort() : undefined),
  });
  await runToEnd(config, smallOptions(place, { callbacks: [stop], signal: controller.signal }));
  return runToEnd(config, smallOptions(place, { existing: 'resume' }));
}

describe('ema', () => {
  it('is the average a loop computes; it is what is measured, saved and given as result', async () => {
    const seen: Float64Array[] = [];
    const output = place.freshOutput();
    const config = smallConfig(place, { output, ema: { decay: 0.6 }, duration: { steps: 5 } });
    const trainer = createTrainer(config, smallOptions(place, { callbacks: [recordWeights(seen)] }));
    const events = await collect(trainer);
    const oracle = (seen[0] ?? new Float64Array()).slice();
    for (const [at, trained] of seen.slice(1).entries()) {
      const decay = Math.min(0.6, (2 + at) / (11 + at));
      for (let i = 0; i < oracle.length; i++)
        oracle[i] = decay * (oracle[i] ?? 0) + (1 - decay) * (trained[i] ?? 0);
    }
    const saved = await loadModel(join(output, 'model'));
    expect(largestDifference(weightsOf(saved), oracle)).toBeLessThan(1e-6);
    expect(largestDifference(weightsOf(saved), seen.at(-1) ?? [])).toBeGreaterThan(1e-3);
    expect(weightsOf(trainer.model)).toEqual(weightsOf(saved));
    const [last] = evaluationsOf(events);
    expect(last?.weights).toBe('average');
    const again = await evaluate(saved, trainer.dataset.heldOut, { length: 32, sequences: 4 });
    expect(again.bitsPerByte).toBe(last?.bitsPerByte);
    saved.dispose();
    trainer.dispose();
  });

  it('changes nothing about training, and begins where startStep says', async () => {
    const plain: Float64Array[] = [];
    const averaged: Float64Array[] = [];
    const parts = { duration: { steps: 4 }, evaluation: { everySteps: 1, tokens: 200 } };
    await runToEnd(smallConfig(place, parts), smallOptions(place, { callbacks: [recordWeights(plain)] }));
    const events = await runToEnd(
      smallConfig(place, { ...parts, ema: { decay: 0.9, startStep: 2 } }),
      smallOptions(place, { callbacks: [recordWeights(averaged)] }),
    );
    expect(averaged).toEqual(plain);
    expect(evaluationsOf(events).map(({ weights }) => weights)).toEqual([
      'trained',
      'trained',
      'average',
      'average',
    ]);
  });

  it('is part of the checkpoint: a run in two sessions gives the same bytes', async () => {
    const parts = {
      ema: { decay: 0.9, startStep: 1 },
      duration: { steps: 6 },
      checkpoint: { everySteps: 3 },
      evaluation: { everySteps: 2, tokens: 200 },
    };
    const whole = place.freshOutput();
    await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const twice = place.freshOutput();
    // Step 4 would have been followed by an evaluation, which the second session owes.
    const second = await runInTwo(smallConfig(place, { ...parts, output: twice }), 4);
    expect(second.filter(({ kind }) => kind === 'evaluate' || kind === 'step')).toMatchObject([
      { kind: 'evaluate', step: 4 },
      { kind: 'step', step: 5 },
      { kind: 'step', step: 6 },
      { kind: 'evaluate', step: 6 },
    ]);
    expect(digests(twice)).toEqual(digests(whole));
  });

  it('keeps the number of live tensors, and frees everything', async () => {
    const before = memory().numTensors;
    const config = smallConfig(place, {
      ema: { decay: 0.9 },
      earlyStop: { patience: 50 },
      evaluation: { everySteps: 1, tokens: 100 },
      duration: { steps: 12 },
    });
    const steps = stepsOf(await runToEnd(config, smallOptions(place)));
    expect(new Set(steps.slice(4).map((step) => step.memory.tensors)).size).toBe(1);
    expect(memory().numTensors).toBe(before);
  });

  it('rises to its decay', () => {
    expect([1, 2, 10, 100_000].map((updates) => averageDecay(0.999, updates))).toEqual([
      2 / 11,
      3 / 12,
      11 / 20,
      0.999,
    ]);
  });
});

describe('early stop', () => {
  /** A rate so high that held-out text gets worse soon. */
  const hot = {
    optimizer: { learningRate: 0.3, clipNorm: null },
    earlyStop: { patience: 2 },
    evaluation: { everySteps: 1, tokens: 400 },
    duration: { steps: 40 },
  };

  it('ends the run after its patience; the best weights are the result', async () => {
    const seen: Float64Array[] = [];
    const output = place.freshOutput();
    const trainer = createTrainer(
      smallConfig(place, { ...hot, output }),
      smallOptions(place, { callbacks: [recordWeights(seen)] }),
    );
    const events = await collect(trainer);
    const measured = evaluationsOf(events).filter(({ weights }) => weights === 'trained');
    const bits = measured.map(({ bitsPerByte }) => bitsPerByte);
    const bestStep = bits.indexOf(Math.min(...bits)) + 1;
    const end = events.at(-1);
    expect(end).toMatchObject({ kind: 'end', reason: 'early-stop', step: bestStep + 2, bestStep });
    expect(bestStep + 2).toBeLessThan(40);
    const saved = await loadModel(join(output, 'model'));
    expect(weightsOf(saved)).toEqual(seen[bestStep]);
    expect(weightsOf(trainer.model)).toEqual(seen[bestStep]);
    expect(evaluationsOf(events).at(-1)?.weights).toBe('best');
    saved.dispose();
    trainer.dispose();
  });

  it('gives the same bytes in two sessions, stopped before and after the best step', async () => {
    const whole = place.freshOutput();
    const first = await runToEnd(
      smallConfig(place, { ...hot, output: whole, checkpoint: { everySteps: 1 } }),
      smallOptions(place),
    );
    const end = first.at(-1);
    if (end?.kind !== 'end' || end.bestStep === undefined) throw new Error('no early stop');
    for (const stopAfter of [end.bestStep, end.bestStep + 1]) {
      const output = place.freshOutput();
      const config = smallConfig(place, { ...hot, output, checkpoint: { everySteps: 1 } });
      const second = await runInTwo(config, stopAfter);
      expect(second.at(-1)).toEqual(end);
      expect(readFileSync(join(output, 'metrics.jsonl'), 'utf8')).toBe(
        readFileSync(join(whole, 'metrics.jsonl'), 'utf8'),
      );
      expect(digests(output)).toEqual(digests(whole));
    }
  });

  it('keeps the best of a run that ends by itself, its last step judged too', async () => {
    const config = smallConfig(place, {
      earlyStop: { patience: 9 },
      evaluation: { everySteps: 2, tokens: 400 },
      duration: { steps: 5 },
    });
    const events = await runToEnd(config, smallOptions(place));
    expect(evaluationsOf(events).map(({ step, weights }) => [step, weights])).toEqual([
      [2, 'trained'],
      [4, 'trained'],
      [5, 'trained'],
      [5, 'best'],
    ]);
    expect(events.at(-1)).toMatchObject({ reason: 'finished', bestStep: 5 });
  });

  it('needs evaluations', () => {
    const config = smallConfig(place, { earlyStop: { patience: 1 } });
    expect(() => createTrainer(config, smallOptions(place))).toThrow(
      'run configuration: must be a valid configuration, got 1 fault:\n' +
        '  earlyStop: must have evaluations to stop by (evaluation.everySteps), got evaluation.everySteps null (set evaluation.everySteps, or earlyStop to null)',
    );
  });
});

describe('initFrom', () => {
  const small = { duration: { steps: 3 } };
  let source = '';
  beforeAll(async () => {
    source = join(place.freshOutput(), 'model');
    await runToEnd(smallConfig(place, { ...small, output: join(source, '..') }), smallOptions(place));
  });

  it('begins with the weights and the tokenizer of the folder; model and tokenizer may be left out', async () => {
    const { model: _model, tokenizer: _tokenizer, ...rest } = smallConfig(place, small);
    const output = place.freshOutput();
    const seen: Float64Array[] = [];
    const trainer = createTrainer(
      { ...rest, initFrom: source, output, data: { training: { path: join(place.texts, 'part-*.txt') } } },
      smallOptions(place, { callbacks: [recordWeights(seen)] }),
    );
    expect(trainer.config).toMatchObject({ model: source, initFrom: source, tokenizer: { path: source } });
    const events = await collect(trainer);
    const saved = await loadModel(source);
    expect(seen[0]).toEqual(weightsOf(saved));
    expect(seen[1]).not.toEqual(seen[0]);
    expect(stepsOf(events)[0]?.loss).toBeLessThan(Math.log(400) - 0.1);
    expect(readFileSync(join(output, 'model', 'tokenizer.json'), 'utf8')).toBe(
      readFileSync(join(source, 'tokenizer.json'), 'utf8'),
    );
    saved.dispose();
    trainer.dispose();
  });

  it('is resumed like any run', async () => {
    const parts = {
      initFrom: source,
      tokenizer: { path: source },
      duration: { steps: 4 },
      checkpoint: { everySteps: 2 },
    };
    const whole = place.freshOutput();
    await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const twice = place.freshOutput();
    await runInTwo(smallConfig(place, { ...parts, output: twice }), 3);
    expect(digests(twice)).toEqual(digests(whole));
    expect(existsSync(join(twice, 'model'))).toBe(true);
  });
});

describe('replay', () => {
  it('mixes the training side of another text into the steps, also in two sessions', async () => {
    const other = join(place.folder, 'other');
    mkdirSync(other, { recursive: true });
    for (let part = 0; part < 5; part++)
      writeFileSync(join(other, `speech-${part}.txt`), `We the people, ${part} times over.\n`.repeat(40));
    const parts = {
      data: {
        training: { path: place.texts },
        heldOutFraction: 0.2,
        replay: { source: { path: other }, share: 0.5 },
      },
      duration: { steps: 4 },
      checkpoint: { everySteps: 2 },
    };
    const whole = place.freshOutput();
    const trainer = createTrainer(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const mixed = stepsOf(await collect(trainer));
    const { dataset } = trainer;
    expect(dataset.replay?.bytes.length).toBe(4);
    expect(dataset.heldOutNames.some((name) => name.startsWith('speech'))).toBe(false);
    trainer.dispose();
    const { replay: _, ...alone } = parts.data;
    const plain = stepsOf(await runToEnd(smallConfig(place, { ...parts, data: alone }), smallOptions(place)));
    expect(mixed.map(({ loss }) => loss)).not.toEqual(plain.map(({ loss }) => loss));
    expect(mixed.map(({ tokens }) => tokens)).toEqual(plain.map(({ tokens }) => tokens));
    const twice = place.freshOutput();
    await runInTwo(smallConfig(place, { ...parts, output: twice }), 3);
    expect(digests(twice)).toEqual(digests(whole));
  });
});

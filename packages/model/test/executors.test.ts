/** Experts that have to be waited for: the same model code under an executor whose tasks yield, and one that fails. */
import { runAsync, runSync, type Task, type Wait } from '@moebius/core';
import { createLocalExecutor, defineExecutor, type ExpertExecutor } from '@moebius/routing';
import { countTensors, disposeTree, readHostSync, type Tensor } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { type DecoderModel, generate } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyIds, tinyModel } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

checkLeaks();

const ids = tinyIds(10);
const batch = { ids, targets: ids, batch: 2 };

/** Ready after a timer; notes that somebody waited. */
function later(waits: string[], reason: string): Wait {
  let done = false;
  return {
    reason,
    ready: () => done,
    promise: () =>
      new Promise((resolve) => {
        setTimeout(() => {
          done = true;
          waits.push(reason);
          resolve();
        }, 1);
      }),
  };
}

/** The local executor behind a wait on each call; the forward of `failAt` fails while it waits. */
function slowExecutor(waits: string[], failAt = -1): ExpertExecutor {
  const local = createLocalExecutor();
  return defineExecutor({
    name: 'slow',
    accepts: ['pairs'],
    *forward(input) {
      yield later(waits, `forward ${input.layer}`);
      if (input.layer === failAt) throw new Error('the disk is gone');
      return yield* local.forward(input);
    },
    *backward(saved, dy) {
      yield later(waits, 'backward');
      if (failAt === 99) throw new Error('the disk is gone');
      return yield* local.backward(saved, dy);
    },
  });
}

const slowModel = (waits: string[], failAt?: number): DecoderModel =>
  tinyModel({}, 7, { executor: slowExecutor(waits, failAt) });

const valuesOf = (tree: { readonly [id: string]: Tensor }): number[][] =>
  Object.keys(tree)
    .toSorted()
    .map((id) => [...readHostSync(tree[id] as Tensor)]);

describe('a model whose experts must be waited for', () => {
  it('gives the numbers of a model that never waits', async () => {
    const waits: string[] = [];
    const model = slowModel(waits);
    const plain = tinyModel();
    const a = await runAsync(model.loss(batch));
    const b = runSync(plain.loss(batch));
    expect(a.total).toBe(b.total);
    if (a.saved === null || b.saved === null) throw new Error('nothing saved');
    const slow = await runAsync(model.backward(a.saved));
    const fast = runSync(plain.backward(b.saved));
    expect(valuesOf(slow)).toEqual(valuesOf(fast));
    expect(waits).toEqual(['forward 0', 'forward 2', 'backward', 'backward']);
    disposeTree([slow, fast]);
    model.dispose();
    plain.dispose();
  });

  it('generates the same text', async () => {
    const waits: string[] = [];
    const textOf = async (model: DecoderModel): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const { token } of generate(model, [1, 2, 3], { maxNewTokens: 6 })) tokens.push(token);
      return tokens;
    };
    const model = slowModel(waits);
    const plain = tinyModel();
    expect(await textOf(model)).toEqual(await textOf(plain));
    expect(waits).toHaveLength(12);
    model.dispose();
    plain.dispose();
  });

  it('cannot be run by the blocking driver, which says why', () => {
    const model = slowModel([]);
    expect(() => runSync(model.loss(batch))).toThrow('every wait must be able to block, got "forward 0"');
    model.dispose();
  });

  it('frees everything when an expert cannot be had, going forward, back, or generating', async () => {
    const before = countTensors();
    const failing = (task: Task<unknown>): Promise<unknown> =>
      runAsync(task).catch((error: unknown) => error);
    const forwards = slowModel([], 2);
    expect(String(await failing(forwards.loss(batch)))).toContain('the disk is gone');
    const text = generate(forwards, [1, 2], { maxNewTokens: 3 });
    await expect(text.next()).rejects.toThrow('the disk is gone');
    forwards.dispose();
    expect(countTensors()).toBe(before);
    const backwards = slowModel([], 99);
    const { saved } = await runAsync(backwards.loss(batch));
    if (saved === null) throw new Error('nothing saved');
    expect(String(await failing(backwards.backward(saved)))).toContain('the disk is gone');
    backwards.dispose();
  });
});

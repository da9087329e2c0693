import { createRng, isMoebiusError, runSync } from '@moebius/core';
import { countTensors, disposeTree, readHostSync } from '@moebius/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  type DecoderModel,
  generate,
  generateBatch,
  type GeneratedToken,
  type GenerateOptions,
} from '../src/index.ts';
import { logProbability } from '../src/sample.kernel.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyModel } from './tiny-model.ts';

await prepareEngine();

let model: DecoderModel;
let before = 0;
beforeEach(() => {
  before = countTensors();
  model = tinyModel();
});
afterEach(() => {
  model.dispose();
  expect(countTensors()).toBe(before);
});

const prompt = [3, 1, 4, 1, 5];

async function tokensOf(
  options: GenerateOptions,
  from: readonly number[] = prompt,
): Promise<GeneratedToken[]> {
  const tokens: GeneratedToken[] = [];
  for await (const token of generate(model, from, options)) tokens.push(token);
  return tokens;
}

const idsOf = (tokens: readonly GeneratedToken[]): number[] => tokens.map(({ token }) => token);

/** Greedy decoding without a cache: the whole sequence again for every token. */
function greedyByDefinition(from: readonly number[], count: number): number[] {
  const ids = [...from];
  for (let step = 0; step < count; step += 1) {
    const { hidden } = runSync(model.forward({ ids: Int32Array.from(ids) }));
    const logits = model.logits(hidden);
    const row = [...readHostSync(logits)].slice(-model.config.vocab_size);
    ids.push(row.indexOf(Math.max(...row)));
    disposeTree([hidden, logits]);
  }
  return ids.slice(from.length);
}

describe('generate', () => {
  it('gives greedily what the uncached forward gives', async () => {
    const tokens = await tokensOf({ maxNewTokens: 12 });
    expect(idsOf(tokens)).toEqual(greedyByDefinition(prompt, 12));
    expect(tokens.map(({ index }) => index)).toEqual(Array.from({ length: 12 }, (_, at) => at));
    expect(tokens.map(({ finished }) => finished)).toEqual([
      ...Array.from({ length: 11 }, () => null),
      'length',
    ]);
  });

  it('gives for every prompt of a ragged batch what it gives alone', async () => {
    const prompts = [[1], [2, 3, 4, 5, 6, 7], [8, 9], [10]];
    const together: number[][] = prompts.map(() => []);
    for await (const { sequence, token } of generateBatch(model, prompts, { maxNewTokens: 9 })) {
      together[sequence]?.push(token);
    }
    for (const [at, single] of prompts.entries()) {
      expect(together[at]).toEqual(idsOf(await tokensOf({ maxNewTokens: 9 }, single)));
    }
  });

  it('lets a sequence end by a stop token while its neighbours go on', async () => {
    const free = greedyByDefinition([8, 9], 9);
    const stop = free[3] ?? -1;
    const prompts = [[1], [8, 9], [2, 3, 4]];
    const together: GeneratedToken[][] = prompts.map(() => []);
    for await (const token of generateBatch(model, prompts, { maxNewTokens: 9, stopTokens: [stop] })) {
      together[token.sequence]?.push(token);
    }
    for (const [at, single] of prompts.entries()) {
      const expected = greedyByDefinition(single, 9);
      const end = expected.indexOf(stop);
      expect(idsOf(together[at] ?? [])).toEqual(end < 0 ? expected : expected.slice(0, end + 1));
      expect(together[at]?.at(-1)?.finished).toBe(end < 0 ? 'length' : 'stop');
    }
    expect(together[1]?.length).toBeLessThanOrEqual(4);
  });

  it('stops at the eos_token_id of the configuration by default', async () => {
    const [first = 0] = greedyByDefinition(prompt, 1);
    const ending = tinyModel({ eos_token_id: [first] });
    const tokens: number[] = [];
    for await (const { token } of generate(ending, prompt, { maxNewTokens: 9 })) tokens.push(token);
    expect(tokens).toEqual([first]);
    ending.dispose();
  });

  it('draws the same tokens for the same seed and others for another', async () => {
    const draw = async (seed: number): Promise<number[]> =>
      idsOf(await tokensOf({ maxNewTokens: 20, sampling: { rng: createRng(seed), temperature: 1.5 } }));
    expect(await draw(1)).toEqual(await draw(1));
    expect(await draw(1)).not.toEqual(await draw(2));
  });

  it('draws as it would greedily when one token is allowed', async () => {
    const sampling = { rng: createRng(1), topK: 1 };
    expect(idsOf(await tokensOf({ maxNewTokens: 8, sampling }))).toEqual(greedyByDefinition(prompt, 8));
    const nucleus = { rng: createRng(1), topP: 1e-6 };
    expect(idsOf(await tokensOf({ maxNewTokens: 8, sampling: nucleus }))).toEqual(
      greedyByDefinition(prompt, 8),
    );
  });

  it('draws a prompt of a batch as it would alone at the same place', async () => {
    const sampled = async (prompts: readonly number[][], stopTokens: number[]): Promise<number[]> => {
      const tokens: number[] = [];
      const options = { maxNewTokens: 6, stopTokens, sampling: { rng: createRng(4) } };
      for await (const { sequence, token } of generateBatch(model, prompts, options)) {
        if (sequence === 0) tokens.push(token);
      }
      return tokens;
    };
    expect(await sampled([[1, 2], [3]], [])).toEqual(await sampled([[1, 2]], []));
  });

  it('draws a prompt of a long list the same, however the list is cut into batches', async () => {
    const prompts = [[1, 2], [3], [4, 5, 6], [1, 2], [9]];
    const drawn = async (batch: number): Promise<number[][]> => {
      const made: number[][] = prompts.map(() => []);
      for (let first = 0; first < prompts.length; first += batch) {
        const options = { maxNewTokens: 6, sampling: { rng: createRng(4), firstPlace: first } };
        const part = prompts.slice(first, first + batch);
        for await (const { sequence, token } of generateBatch(model, part, options)) {
          made[first + sequence]?.push(token);
        }
      }
      return made;
    };
    const whole = await drawn(5);
    expect(whole[0]).not.toEqual(whole[3]);
    expect(await drawn(2)).toEqual(whole);
    expect(await drawn(1)).toEqual(whole);
  });

  it('obeys penalties greedily, as the definition over the whole text says', async () => {
    const penalties = { repetition: 1.4, presence: 0.2, frequency: 0.1 };
    const made: number[] = [];
    for (let step = 0; step < 10; step += 1) {
      const ids = [...prompt, ...made];
      const { hidden } = runSync(model.forward({ ids: Int32Array.from(ids) }));
      const logits = model.logits(hidden);
      const row = [...readHostSync(logits)].slice(-model.config.vocab_size).map((logit, token) => {
        const count = made.filter((other) => other === token).length;
        const repeated = logit < 0 ? logit * 1.4 : logit / 1.4;
        return (ids.includes(token) ? repeated : logit) - (count > 0 ? 0.2 : 0) - 0.1 * count;
      });
      made.push(row.indexOf(Math.max(...row)));
      disposeTree([hidden, logits]);
    }
    expect(idsOf(await tokensOf({ maxNewTokens: 10, penalties }))).toEqual(made);
    expect(made).not.toEqual(greedyByDefinition(prompt, 10));
    expect(new Set(idsOf(await tokensOf({ maxNewTokens: 14, penalties: { presence: 1e6 } }))).size).toBe(14);
  });

  it('changes nothing with penalties of 1, 0 and 0', async () => {
    const penalties = { repetition: 1, presence: 0, frequency: 0 };
    expect(idsOf(await tokensOf({ maxNewTokens: 9, penalties }))).toEqual(greedyByDefinition(prompt, 9));
  });

  it('penalises every prompt of a batch by its own history', async () => {
    const prompts = [[1], [2, 3, 4, 5], [1]];
    const options = { maxNewTokens: 9, penalties: { repetition: 2, frequency: 0.3 } };
    const together: number[][] = prompts.map(() => []);
    for await (const { sequence, token } of generateBatch(model, prompts, options)) {
      together[sequence]?.push(token);
    }
    for (const [at, single] of prompts.entries()) {
      expect(together[at]).toEqual(idsOf(await tokensOf(options, single)));
    }
  });

  it('refuses logits that a penalty made infinite', async () => {
    const error: unknown = await tokensOf({ maxNewTokens: 9, penalties: { presence: -1e300 } }).catch(
      (reason: unknown) => reason,
    );
    expect(isMoebiusError(error, 'numerics')).toBe(true);
  });

  it('ends one sequence where stopWhen says so, asking once per token', async () => {
    const asked: number[][] = [[], []];
    const stopWhen = (sequence: number, token: number): boolean => {
      asked[sequence]?.push(token);
      return sequence === 0 && asked[0]?.length === 3;
    };
    const tokens: GeneratedToken[] = [];
    for await (const token of generateBatch(model, [prompt, [1, 2]], { maxNewTokens: 6, stopWhen })) {
      tokens.push(token);
    }
    expect(asked.map((list) => list.length)).toEqual([3, 6]);
    const ends = tokens.filter(({ finished }) => finished !== null);
    expect(ends.map(({ sequence, index, finished }) => [sequence, index, finished])).toEqual([
      [0, 2, 'stop'],
      [1, 5, 'length'],
    ]);
    expect(asked[1]).toEqual(greedyByDefinition([1, 2], 6));
  });

  it('gives log-probabilities of the unfiltered distribution', async () => {
    const [first] = await tokensOf({
      maxNewTokens: 1,
      logprobs: true,
      sampling: { rng: createRng(1), topK: 1 },
    });
    const { hidden } = runSync(model.forward({ ids: Int32Array.from(prompt) }));
    const logits = model.logits(hidden);
    const row = Float32Array.from(readHostSync(logits)).slice(-model.config.vocab_size);
    expect(first?.logprob).toBeCloseTo(logProbability(row, first?.token ?? -1), 4);
    disposeTree([hidden, logits]);
  });

  it('frees everything when the consumer stops early', async () => {
    await tokensOf({ maxNewTokens: 2 }); // the rotary table and the store's read handles stay
    const held = countTensors();
    for await (const { index } of generate(model, prompt, { maxNewTokens: 30 })) if (index === 3) break;
    const abandoned = generate(model, prompt, { maxNewTokens: 30 });
    await abandoned.next();
    await abandoned.return();
    expect(countTensors()).toBe(held);
  });

  it('ends with an aborted error when the signal says so', async () => {
    const control = new AbortController();
    const seen: number[] = [];
    const run = async (): Promise<void> => {
      for await (const { token } of generate(model, prompt, { maxNewTokens: 30, signal: control.signal })) {
        seen.push(token);
        if (seen.length === 2) control.abort();
      }
    };
    const error: unknown = await run().catch((reason: unknown) => reason);
    expect(isMoebiusError(error, 'aborted')).toBe(true);
    expect(seen).toHaveLength(2);
    const late: unknown = await tokensOf({ maxNewTokens: 1, signal: control.signal }).catch(
      (reason: unknown) => reason,
    );
    expect(isMoebiusError(late, 'aborted')).toBe(true);
  });

  it('lets timers run between tokens', async () => {
    let ticks = 0;
    const timer = setInterval(() => (ticks += 1), 0);
    const ticksAt: number[] = [];
    for await (const _ of generate(model, prompt, { maxNewTokens: 40 })) ticksAt.push(ticks);
    clearInterval(timer);
    expect(ticksAt.at(-1)).toBeGreaterThan(ticksAt[0] ?? 0);
  });

  it('yields nothing for zero new tokens', async () => {
    expect(await tokensOf({ maxNewTokens: 0 })).toEqual([]);
  });

  it('reports all faults of a request at once', async () => {
    const sampling = { rng: createRng(1), temperature: 0, topP: 2, topK: -1, minP: 1.5 };
    const penalties = { repetition: 0, presence: Infinity, frequency: Number.NaN };
    const error: unknown = await tokensOf({ maxNewTokens: 1.5, sampling, penalties }, []).catch(
      (reason: unknown) => reason,
    );
    const message = String(error);
    const parts = ['maxNewTokens', 'prompts[0]', 'temperature', 'topK', 'topP', 'minP'];
    for (const part of [...parts, 'repetition', 'presence', 'frequency']) expect(message).toContain(part);
    const long: unknown = await tokensOf({ maxNewTokens: 60 }).catch((reason: unknown) => reason);
    expect(String(long)).toContain('max_position_embeddings 64, got 5 + 60');
  });

  it('names a prompt token outside the vocabulary and frees the cache', async () => {
    const error: unknown = await tokensOf({ maxNewTokens: 2 }, [1, 99]).catch((reason: unknown) => reason);
    expect(isMoebiusError(error, 'data')).toBe(true);
  });
});

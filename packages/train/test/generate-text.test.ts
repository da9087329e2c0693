import { createRng } from '@moebius/core';
import { createModel, generateBatch, initialiseParameters, parseModelConfig } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { countTensors, createEngine } from '@moebius/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createTokenizer, generateText, generateTexts, trainTokenizer } from '../src/index.ts';
import type { GenerateTextOptions, TextPiece } from '../src/index.ts';

const tokenizer = createTokenizer(
  trainTokenizer(['the cat sat on the mat, the naïve café was 日本語'], { vocabularySize: 280 }),
);
const config = parseModelConfig({
  model_type: 'qwen3_moe',
  vocab_size: tokenizer.vocabularySize,
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  moe_intermediate_size: 8,
  num_experts: 4,
  num_experts_per_tok: 2,
  max_position_embeddings: 48,
  initializer_range: 0.5,
});

let model: DecoderModel;
let before = 0;
beforeAll(async () => {
  await createEngine();
  before = countTensors();
  model = createModel({ config, parameters: initialiseParameters(config, createRng(5)) });
});
afterAll(() => {
  model.dispose();
  expect(countTensors()).toBe(before);
});

async function piecesOf(prompts: readonly string[], options: GenerateTextOptions): Promise<TextPiece[]> {
  const pieces: TextPiece[] = [];
  for await (const piece of generateTexts({ model, tokenizer }, prompts, options)) pieces.push(piece);
  return pieces;
}

const textOf = (pieces: readonly TextPiece[], sequence = 0): string =>
  pieces.flatMap((piece) => (piece.sequence === sequence ? [piece.text] : [])).join('');

const greedy = { temperature: 0, maximumTokens: 30 };

describe('generateTexts', () => {
  it('gives the tokens of the model and their text', async () => {
    const pieces = await piecesOf(['the cat'], greedy);
    const ids = [tokenizer.endOfTextId, ...tokenizer.encode('the cat')];
    const expected: number[] = [];
    const stopTokens = [tokenizer.endOfTextId];
    for await (const { token } of generateBatch(model, [ids], { maxNewTokens: 30, stopTokens })) {
      expected.push(token);
    }
    expect(pieces.map(({ token }) => token)).toEqual(expected);
    const bytes = expected.flatMap((id) => [...(tokenizer.bytesOf(id) ?? [])]);
    expect(textOf(pieces)).toBe(new TextDecoder().decode(Uint8Array.from(bytes)));
  });

  it('ends before a stop string that spans tokens, in its own text only', async () => {
    const prompts = ['the cat', 'mat'];
    const free = await piecesOf(prompts, greedy);
    const whole = textOf(free);
    const stop = whole.slice(7, 13);
    expect(tokenizer.encode(stop).length).toBeGreaterThan(1);
    const cut = await piecesOf(prompts, { ...greedy, stop: ['never there', stop] });
    for (const [sequence] of prompts.entries()) {
      const full = textOf(free, sequence);
      const end = full.indexOf(stop);
      expect(textOf(cut, sequence)).toBe(end < 0 ? full : full.slice(0, end));
      const last = cut.findLast((piece) => piece.sequence === sequence);
      expect(last?.finished).toBe(end < 0 ? 'length' : 'stop');
    }
    expect(cut.length).toBeLessThan(free.length);
  });

  it('gives all of a text whose end could have begun a stop string', async () => {
    const whole = textOf(await piecesOf(['the cat'], greedy));
    const pieces = await piecesOf(['the cat'], { ...greedy, stop: [`${whole.slice(-3)} and more`] });
    expect(textOf(pieces)).toBe(whole);
    expect(pieces.at(-1)?.finished).toBe('length');
  });

  it('gives log-probabilities when asked, which penalties do not change', async () => {
    const [plain] = await piecesOf(['the'], { ...greedy, maximumTokens: 1 });
    expect(plain).not.toHaveProperty('logprob');
    const [asked] = await piecesOf(['the'], { ...greedy, maximumTokens: 1, logprobs: true });
    expect(asked?.logprob).toBeLessThan(0);
    const penalised = await piecesOf(['the'], { ...greedy, logprobs: true, presencePenalty: 1e4 });
    expect(new Set(penalised.map(({ token }) => token)).size).toBe(penalised.length);
    expect(Math.min(...penalised.map(({ logprob = 0 }) => logprob))).toBeGreaterThan(-1e3);
  });

  it('draws the same text for the same seed, and the most probable tokens with min-p 1', async () => {
    const draw = async (options: GenerateTextOptions): Promise<string> =>
      textOf(await piecesOf(['the'], { temperature: 1.5, topK: 0, maximumTokens: 12, ...options }));
    expect(await draw({ seed: 3 })).toBe(await draw({ seed: 3 }));
    expect(await draw({ seed: 3 })).not.toBe(await draw({ seed: 4 }));
    expect(await draw({ minP: 1 })).toBe(await draw({ temperature: 0 }));
  });

  it('shortens a prompt that leaves no room only when told to', async () => {
    const long = 'the cat sat on the mat '.repeat(20);
    await expect(piecesOf([long], greedy)).rejects.toThrow('max_position_embeddings');
    expect((await piecesOf([long], { ...greedy, shorten: true })).length).toBeGreaterThan(0);
  });

  it('is what generateText gives, piece by piece', async () => {
    let text = '';
    for await (const piece of generateText({ model, tokenizer }, 'mat', greedy)) text += piece;
    expect(text).toBe(textOf(await piecesOf(['mat'], greedy)));
  });

  it('refuses an empty stop string', async () => {
    await expect(piecesOf(['x'], { stop: [''] })).rejects.toThrow('stop[0]');
  });
});

/**
 * @file What users get wrong, and what they are told: each row is an input, and the message of the run that was refused.
 * Broken plug-ins are in `broken-plugins.test.ts`.
 */
import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { isMoebiusError } from '@moebius/core';
import type { ErrorCode } from '@moebius/core';
import { memory } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import type { TrainConfigInput, TrainerOptions } from '../src/index.ts';
import { runToEnd, smallConfig, smallOptions, useWorkplace } from './small-run.ts';

const place = useWorkplace();
/** A finished run of two steps, its checkpoint at `checkpoint/state.safetensors`, its model at `model`. */
let finished = '';
beforeAll(async () => {
  finished = place.freshOutput();
  await runToEnd(
    smallConfig(place, { output: finished, duration: { steps: 2 }, checkpoint: { everySteps: 1 } }),
    smallOptions(place),
  );
});

/** Code and message of a run that must be refused, paths shortened; no tensor stays. */
async function refusal(
  parts: Partial<TrainConfigInput>,
  options: Partial<TrainerOptions> = {},
): Promise<[ErrorCode, string]> {
  const before = memory().numTensors;
  try {
    await runToEnd(smallConfig(place, { duration: { steps: 1 }, ...parts }), smallOptions(place, options));
  } catch (error) {
    expect(memory().numTensors).toBe(before);
    if (isMoebiusError(error)) return [error.code, error.message.replaceAll(place.folder, '…')];
    throw error;
  }
  throw new Error('the run was not refused');
}

/** A folder with some files. */
function folderWith(files: { readonly [name: string]: string | Uint8Array }): string {
  const folder = place.freshOutput();
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

describe('text', () => {
  const cases: [string, { readonly [name: string]: string | Uint8Array }, ErrorCode, RegExp][] = [
    [
      'an empty file',
      { 'a.txt': '' },
      'data',
      /a\.txt: must contain text, got an empty file \(remove it, or fill it\)$/,
    ],
    [
      'white space',
      { 'a.txt': ' \n\t' },
      'data',
      /a\.txt: must contain text, got only white space \(remove it, or fill it\)$/,
    ],
    [
      'a binary file',
      { 'a.txt': Uint8Array.of(77, 90, 0, 3) },
      'data',
      /a\.txt: must be UTF-8 text, got byte 0 at position 2 \(is it a binary file\? convert other encodings with "iconv -t utf-8"\)$/,
    ],
    [
      'another encoding',
      { 'a.txt': Uint8Array.of(99, 97, 102, 233, 10) },
      'data',
      /a\.txt: must be UTF-8 text, got bytes that are not UTF-8 \(/,
    ],
    [
      'a single line',
      { 'a.txt': 'all in one line, however long it may be' },
      'data',
      /^a\.txt: must have several lines to be split into training and held-out text, got one of 39 characters \(add line breaks or files, or give held-out text of its own\)$/,
    ],
    ['no text file', { 'a.pdf': '%PDF' }, 'io', /: must hold \.txt or \.jsonl files, got 1 other entries \(/],
    [
      'a broken JSON line',
      { 'a.jsonl': '{"text":"one"}\n{"text":\n' },
      'data',
      /a\.jsonl, line 2: must be a JSON object with a string "text", got .* \(write one JSON object a line\)$/,
    ],
    [
      'a JSON line without the field',
      { 'a.jsonl': '{"body":"one"}\n' },
      'data',
      /a\.jsonl, line 1: must be a JSON object with a string "text", got only the fields body \(name the field that holds the text\)$/,
    ],
  ];
  it.each(cases)('%s', async (_, files, code, message) => {
    const data = { training: { path: folderWith(files) } };
    const [found, text] = await refusal({ data });
    expect(found).toBe(code);
    expect(text).toMatch(message);
  });

  it('that is not there', async () => {
    const path = join(place.folder, 'textz');
    expect(await refusal({ data: { training: { path } } })).toEqual([
      'io',
      'data: expected a folder, file or glob, got "…/textz", which does not exist (did you mean "…/texts"?)',
    ]);
  });
});

describe('text to mix in', () => {
  it('that is not there', async () => {
    const replay = { source: { path: join(place.folder, 'textz') }, share: 0.5 };
    const [code, message] = await refusal({ data: { training: { path: place.texts }, replay } });
    expect(code).toBe('io');
    expect(message).toMatch(/^data: expected a folder, file or glob, got "…\/textz", which does not exist/);
  });
  it('in an impossible share', async () => {
    const replay = { source: { path: place.texts }, share: 1 };
    const [, message] = await refusal({ data: { training: { path: place.texts }, replay } });
    expect(message).toContain('data.replay.share: must be less than 1, got 1');
  });
});

describe('configuration', () => {
  it('of wrong types: every fault at once', async () => {
    const [code, message] = await refusal({
      ema: { decay: 1 },
      earlyStop: { patience: 0, minimumGain: -1 },
      numerics: { onNonFinite: 'ignore' as 'skip', maximumSkips: 1.5 },
      initFrom: 7 as never,
      seed: 'x' as never,
    });
    expect(code).toBe('configuration');
    expect(message.split('\n').map((line) => line.trim())).toEqual([
      'run configuration: must be a valid configuration, got 7 faults:',
      'initFrom: must be a string, got 7',
      'ema.decay: must be less than 1, got 1',
      'earlyStop.patience: must be at least 1, got 0',
      'earlyStop.minimumGain: must be at least 0, got -1',
      'numerics.onNonFinite: must be one of "stop", "skip", got "ignore"',
      'numerics.maximumSkips: must be an integer, got 1.5',
      'seed: must be a number, got "x"',
    ]);
  });

  it('of impossible shapes', async () => {
    const model = { ...(smallConfig(place).model as object), num_experts_per_tok: 5, num_key_value_heads: 3 };
    const [code, message] = await refusal({ model });
    expect(code).toBe('configuration');
    expect(message).toMatch(/model\.num_experts_per_tok: .*got 5/);
    expect(message).toMatch(/model\.num_key_value_heads: .*got 3/);
  });
});

describe('checkpoint', () => {
  /** Resumes a copy of the finished run whose checkpoint was changed. */
  async function resume(change: (file: string, bytes: Buffer) => void): Promise<[ErrorCode, string]> {
    const output = place.freshOutput();
    cpSync(finished, output, { recursive: true });
    const file = join(output, 'checkpoint', 'state.safetensors');
    change(file, readFileSync(file));
    return refusal({ output, duration: { steps: 2 }, checkpoint: { everySteps: 1 } }, { existing: 'resume' });
  }
  const overwrite =
    (offset: number, value: Uint8Array) =>
    (file: string, bytes: Buffer): void => {
      bytes.set(value, offset);
      writeFileSync(file, bytes);
    };
  const cases: [string, (file: string, bytes: Buffer) => void, RegExp][] = [
    ['empty', (file) => truncateSync(file, 0), /state\.safetensors: .*got 0/],
    ['cut in its first number', (file) => truncateSync(file, 5), /state\.safetensors: .*got 5/],
    ['cut in its header', (file) => truncateSync(file, 300), /state\.safetensors: /],
    ['cut in its tensors', (file, bytes) => truncateSync(file, bytes.length - 1000), /state\.safetensors: /],
    ['one byte short', (file, bytes) => truncateSync(file, bytes.length - 1), /state\.safetensors: /],
    ['with a huge header length', overwrite(0, new Uint8Array(8).fill(0x7f)), /state\.safetensors: /],
    ['with a broken header', overwrite(8, Uint8Array.of(0)), /state\.safetensors: /],
    [
      'with a broken directory',
      (file, bytes) => {
        const at = bytes.indexOf('moebius.units');
        bytes[at] = 'M'.charCodeAt(0);
        writeFileSync(file, bytes);
      },
      /state\.safetensors: must hold a state, got no metadata moebius\.units/,
    ],
    ...[0.5, 0.75, 0.999].map((share): [string, (file: string, bytes: Buffer) => void, RegExp] => [
      `with one bit changed at ${100 * share} %`,
      (file, bytes) => {
        const at = Math.floor(share * bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        writeFileSync(file, bytes);
      },
      /state\.safetensors: unit ".*" must have the bytes it was saved with, got others: sha256 [0-9a-f]{12}… where [0-9a-f]{12}… was written \(the file is damaged: restore a copy\)$/,
    ]),
    [
      'that is a model',
      (file) => cpSync(join(finished, 'model', 'model.safetensors'), file),
      /state\.safetensors: must hold a state, got no metadata moebius\.units/,
    ],
  ];
  it.each(cases)('%s', async (_, change, message) => {
    const [code, text] = await resume(change);
    expect(['checkpoint', 'format', 'limit']).toContain(code);
    expect(text).toMatch(message);
  });

  it('of a run with another tokenizer', async () => {
    const output = place.freshOutput();
    cpSync(finished, output, { recursive: true });
    const [code, message] = await refusal(
      { output, tokenizer: { vocabularySize: 380 }, duration: { steps: 2 }, checkpoint: { everySteps: 1 } },
      { existing: 'resume' },
    );
    expect(code).toBe('checkpoint');
    expect(message).toMatch(
      /^resume: must be the run that …\/output-\d+\/checkpoint\/state\.safetensors was saved by, got other settings: tokenizer\.vocabularySize was 400, is 380; tokenizerHash was "[0-9a-f]+", is "[0-9a-f]+"; trainingTokens was \d+, is \d+ \(restore them, or start a new run\)$/,
    );
  });
});

describe('the model to begin with', () => {
  /** A copy of the finished model, changed. */
  function modelWith(change: (folder: string) => void): string {
    const folder = place.freshOutput();
    cpSync(join(finished, 'model'), folder, { recursive: true });
    change(folder);
    return folder;
  }
  const bare: Partial<TrainConfigInput> = { model: undefined, tokenizer: undefined };
  const cases: [string, () => Partial<TrainConfigInput>, ErrorCode, RegExp][] = [
    [
      'is not there',
      () => ({ ...bare, initFrom: join(place.folder, 'nowhere') }),
      'io',
      /^initFrom: …\/nowhere: must hold a readable config\.json, got ENOENT \(give a model folder\)$/,
    ],
    [
      'is of another kind',
      () => ({ ...bare, initFrom: folderWith({ 'config.json': '{"model_type":"gpt2","n_embd":768}' }) }),
      'configuration',
      /^initFrom: …\/output-\d+\/config\.json: must be a valid configuration, got .*model_type: .*"gpt2"/s,
    ],
    [
      'has a broken configuration',
      () => ({ ...bare, initFrom: modelWith((folder) => truncateSync(join(folder, 'config.json'), 20)) }),
      'format',
      /^initFrom: …\/output-\d+\/config\.json: must be JSON, got /,
    ],
    [
      'has cut weights',
      () => ({
        ...bare,
        initFrom: modelWith((folder) => truncateSync(join(folder, 'model.safetensors'), 5000)),
      }),
      'format',
      /model\.safetensors: /,
    ],
    [
      'has weights of another model',
      () => ({
        ...bare,
        initFrom: modelWith((folder) => {
          const file = join(folder, 'config.json');
          const config = JSON.parse(readFileSync(file, 'utf8')) as object;
          writeFileSync(file, JSON.stringify({ ...config, moe_intermediate_size: 16 }));
        }),
      }),
      'checkpoint',
      /: tensors must be those of config\.json, got model\.layers\.0\.mlp\.experts\.0\.gate_proj\.weight of shape \[32, 32\] where \[16, 32\] is needed/,
    ],
    [
      'has other parameters than `model`',
      () => ({
        initFrom: join(finished, 'model'),
        tokenizer: { path: join(finished, 'model') },
        model: { ...(smallConfig(place).model as object), num_experts: 8, rope_theta: 500_000 },
      }),
      'configuration',
      /^model: must have the parameters of …\/output-\d+\/model, got another configuration: .*num_experts is 4 there and 8 here.* \(leave model out, then it is that one\)$/,
    ],
    [
      'has another tokenizer than the run',
      () => ({ ...bare, initFrom: join(finished, 'model'), tokenizer: { vocabularySize: 380 } }),
      'configuration',
      /^tokenizer: must be the one that the model in …\/output-\d+\/model was trained with \(400 tokens, hash [0-9a-f]{8}\), got another \(380 tokens, hash [0-9a-f]{8}\) \(leave tokenizer out, then it is that one\)$/,
    ],
    [
      'has a smaller vocabulary than the tokenizer',
      () => ({
        initFrom: null,
        model: { ...(smallConfig(place).model as object), vocab_size: 300 },
      }),
      'configuration',
      /vocab_size: must be at least the tokenizer's 400, got 300 \(leave it out, then the tokenizer decides\)$/,
    ],
  ];
  it.each(cases)('%s', async (_, parts, code, message) => {
    const [found, text] = await refusal(parts());
    expect(text).toMatch(message);
    expect(found).toBe(code);
  });
});
